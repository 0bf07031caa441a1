"""Subscribing to the newsletter and leaving it. Nobody learns here who is a subscriber."""

from django.core.signing import BadSignature
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from kombu.exceptions import OperationalError

from .. import subscribing
from ..forms import SubscribeForm
from ..tasks.newsletter import send_confirmation


def subscribe(request):
    """Ask for the newsletter. The answer is the same whether the address is known or not.

    What differs, a task finds out: whether a mail goes out can be seen in the mailbox alone.
    """
    form = SubscribeForm(request.POST or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        subscriber = subscribing.subscriber_of(form.cleaned_data["email"])
        try:
            send_confirmation.delay(subscriber_id=subscriber.pk)
        except OperationalError:
            form.add_error(None, "No mail can be sent just now. Please try again in a few minutes.")
            status = 503
        else:
            return redirect("posts:newsletter_check")
    return render(request, "posts/newsletter/subscribe.html", {"form": form}, status=status)


def check_mailbox(request):
    """Say that a mail is under way."""
    return render(request, "posts/newsletter/check.html")


@never_cache
def confirm(request, token):
    """Confirm an address, with a button.

    Opening the link changes nothing: programs that look for viruses in mails open links too.
    """
    try:
        subscribing.of_token(subscribing.CONFIRM, token, max_age=subscribing.CONFIRM_WITHIN)
        if request.method == "POST":
            subscribing.confirm(token)
    except BadSignature:
        return render(request, "posts/newsletter/broken.html", {"again": True}, status=404)
    return render(request, "posts/newsletter/confirm.html", {"done": request.method == "POST"})


@csrf_exempt  # Mail providers post here without a cookie (RFC 8058). The token is the permission.
@never_cache
def unsubscribe(request, token):
    """Leave the newsletter: with one click in the mail program, or with a button on this page."""
    try:
        subscribing.of_token(subscribing.UNSUBSCRIBE, token)
        if request.method == "POST":
            subscribing.unsubscribe(token)
    except BadSignature:
        return render(request, "posts/newsletter/broken.html", status=404)
    return render(request, "posts/newsletter/unsubscribe.html", {"done": request.method == "POST"})
