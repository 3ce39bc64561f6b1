import itertools
import os
import time

from django.core.files.storage import default_storage
from django.http import HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render

from pages import release
from pages.models import Note
from swiper import variant

asked = itertools.count(1)


def index(request):
    if variant.FAIL_EVERY and next(asked) % variant.FAIL_EVERY == 0:
        return HttpResponse("failed on purpose\n", status=500, content_type="text/plain")
    return render(request, "pages/index.html", {"facts": release.facts()})


def healthz(request):
    """Healthy means: the code says so. It asks no database, so a dead one fails pages, not releases."""
    if not variant.HEALTHY:
        return HttpResponse("unhealthy on purpose\n", status=500, content_type="text/plain")
    return HttpResponse("ok %s\n" % variant.VERSION, content_type="text/plain")


def whoami(request):
    return JsonResponse(release.facts())


def visits(request):
    """Counts one visitor's visits in a session, which lies in the database."""
    count = request.session.get("visits", 0) + 1
    request.session["visits"] = count
    return JsonResponse({"visits": count, "host": release.facts()["host"]})


def notes(request):
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"][:200])
    return JsonResponse({"notes": [note.text for note in Note.objects.order_by("id")[:100]]})


def upload(request):
    """Keeps an uploaded file under medias/, a shared folder of this host."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    sent = request.FILES["file"]
    name = default_storage.save(os.path.basename(sent.name), sent)
    return JsonResponse({"path": "/medias/" + name, "size": sent.size})


def slow(request):
    """Takes as long as it is told, at most 20 s: an open request during a drain or a restart."""
    seconds = min(float(request.GET.get("seconds", "1")), 20.0)
    time.sleep(seconds)
    return HttpResponse("slept %.1f s in %s\n" % (seconds, variant.VERSION), content_type="text/plain")
