from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.shortcuts import redirect
from django.templatetags.static import static as static_url
from django.urls import include, path

from posts.views.queues import metrics

from .health import health

urlpatterns = [
    path("health/", health, name="health"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    # Not django.contrib.auth.urls: strangers could have mails sent, one after the other, while they
    # wait. A forgotten password: `manage.py changepassword`.
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    # For pages without a <link rel="icon">, as the admin's.
    path("favicon.ico", lambda request: redirect(static_url("posts/favicon.svg"))),
    path("", include("posts.urls")),
    # Uploads, in development only: in production the web server in front hands out MEDIA_ROOT.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
