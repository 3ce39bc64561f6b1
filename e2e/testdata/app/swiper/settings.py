"""Settings of the test project. Secrets and the database come from .env beside manage.py, a shared file."""
import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent


def read_env(path):
    """KEY=VALUE lines; a process that was started by hand may have no file, and then gets defaults."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


ENV = {**read_env(BASE_DIR / ".env"), **os.environ}

SECRET_KEY = ENV.get("SWIPER_SECRET", "only for tests")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "swiper.urls"
WSGI_APPLICATION = "swiper.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.sessions", "pages"]
MIDDLEWARE = ["pages.middleware.release_headers", "django.contrib.sessions.middleware.SessionMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# With SWIPER_DB_HOST all hosts share one PostgreSQL. Without it each has a SQLite file in data/,
# a shared folder, so that the project also runs where there is no database host.
if "SWIPER_DB_HOST" in ENV:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": ENV["SWIPER_DB_HOST"],
            "NAME": ENV.get("SWIPER_DB_NAME", "swiper"),
            "USER": ENV.get("SWIPER_DB_USER", "swiper"),
            "PASSWORD": ENV.get("SWIPER_DB_PASSWORD", ""),
            "OPTIONS": {"connect_timeout": 5},
        }
    }
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(BASE_DIR / "data" / "db.sqlite3")}}

STATIC_URL = "/statics/"
STATIC_ROOT = BASE_DIR / "frontend" / "statics"
MEDIA_URL = "/medias/"
MEDIA_ROOT = BASE_DIR / "medias"
FILE_UPLOAD_PERMISSIONS = 0o644
