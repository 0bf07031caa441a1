"""Who may see the working pages."""

from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.shortcuts import resolve_url
from django_htmx.http import HttpResponseClientRedirect


def staff_required(view):
    """Let only staff through to a view.

    Nobody signed in: to the login page and back. Signed in without staff rights: 403, because a
    login page would only send them round in a circle. An htmx request moves the whole page to the
    login, instead of swapping the login form into a corner of it.

    Args:
        view (Callable): a function view.

    Returns:
        Callable: the view behind the guard.

    Raises:
        PermissionDenied: by the guarded view, for people who are not staff.
    """

    @wraps(view)
    def guarded(request, *args, **kwargs):
        if not request.user.is_authenticated:
            if request.htmx:
                here = request.htmx.current_url_abs_path or resolve_url("posts:desk")
                return HttpResponseClientRedirect(redirect_to_login(here).url)
            return redirect_to_login(request.get_full_path())
        if not request.user.is_staff:
            raise PermissionDenied(
                "This page is for staff, and your account is not a staff account."
            )
        return view(request, *args, **kwargs)

    return guarded
