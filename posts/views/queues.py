"""How the queues are, for people and for Prometheus."""

from django.conf import settings
from django.http import HttpResponse, HttpResponseForbidden
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from ..access import staff_required
from ..queues import as_metrics, read_figures


@staff_required
@never_cache
@require_safe
def queues(request):
    """Show the figures: a page, or for htmx the part of it that changes."""
    template = "posts/tasks/_queues.html" if request.htmx else "posts/tasks/queues.html"
    return render(request, template, {"figures": read_figures()})


@never_cache
@require_safe
def metrics(request):
    """Hand the figures to Prometheus, which knows the token, or to staff."""
    if not (has_token(request) or request.user.is_staff):
        return HttpResponseForbidden(
            "Metrics are for staff, or for «Authorization: Bearer …» with METRICS_TOKEN.\n",
            content_type="text/plain; charset=utf-8",
        )
    return HttpResponse(as_metrics(read_figures()), content_type=CONTENT_TYPE_LATEST)


def has_token(request):
    """Whether a request carries METRICS_TOKEN; never, while that is empty."""
    expected, given = settings.METRICS_TOKEN, request.headers.get("Authorization", "")
    return bool(expected) and constant_time_compare(given, f"Bearer {expected}")
