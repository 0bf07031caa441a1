from django.contrib.sitemaps.views import sitemap
from django.urls import include, path

from .feeds import LatestPosts
from .sitemaps import SITEMAPS
from .views import blog, newsletter, writing

app_name = "posts"
urlpatterns = [
    path("", blog.post_list, name="list"),
    path("archive/", blog.archive, name="archive"),
    path("feed/", LatestPosts(), name="feed"),
    path("sitemap.xml", sitemap, {"sitemaps": SITEMAPS}, name="sitemap"),
    path("newsletter/", newsletter.subscribe, name="newsletter"),
    path("newsletter/check/", newsletter.check_mailbox, name="newsletter_check"),
    path("newsletter/confirm/<str:token>/", newsletter.confirm, name="newsletter_confirm"),
    path(
        "newsletter/unsubscribe/<str:token>/",
        newsletter.unsubscribe,
        name="newsletter_unsubscribe",
    ),
    path("posts/<slug:slug>/", blog.detail, name="detail"),
    path("write/", writing.desk, name="desk"),
    path("write/new/", writing.new, name="new"),
    path("write/preview/", writing.preview, name="preview"),
    path("write/<int:pk>/", writing.edit, name="edit"),
    path("write/<int:pk>/preview/", writing.preview, name="preview"),
    path("write/<int:pk>/analysis/", writing.analysis, name="analysis"),
    path("write/<int:pk>/publish/", writing.act, {"action": "publish"}, name="publish"),
    path("write/<int:pk>/schedule/", writing.act, {"action": "schedule"}, name="schedule"),
    path("write/<int:pk>/unpublish/", writing.act, {"action": "unpublish"}, name="unpublish"),
    path("tasks/", include("posts.task_urls")),
]
