import os
import time

from swiper import variant

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "swiper.settings")

# A large project's import takes seconds; so does this one's when a test asks for it.
time.sleep(variant.IMPORT_SECONDS)
if not variant.IMPORT_WORKS:
    raise ImportError("this version does not import, on purpose")

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()
