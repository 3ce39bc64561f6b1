from django.conf import settings
from django.urls import path
from django.views.static import serve

from pages import views

urlpatterns = [
    path("", views.index),
    path("healthz", views.healthz),
    path("whoami", views.whoami),
    path("visits", views.visits),
    path("notes", views.notes),
    path("upload", views.upload),
    path("slow", views.slow),
    # nginx serves these two where it has the files; the project does where it is asked itself.
    path("statics/<path:path>", serve, {"document_root": settings.STATIC_ROOT}),
    path("medias/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
]
