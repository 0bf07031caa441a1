"""The arguments of the sample tasks, with values that show something at once."""

from urllib.parse import urlsplit

from django import forms

from .models import Post


class NoForm(forms.Form):
    """For tasks that need no arguments."""


class AddForm(forms.Form):
    x = forms.IntegerField(label="First number", initial=2)
    y = forms.IntegerField(label="Second number", initial=3)
    seconds = forms.FloatField(
        label="Seconds it takes (0 to 60)", initial=3, min_value=0, max_value=60
    )


class FailSometimesForm(forms.Form):
    value = forms.CharField(label="What to process", initial="a parcel", max_length=200)
    chance = forms.FloatField(
        label="Chance of failure (0 to 1)", initial=0.5, min_value=0, max_value=1
    )


class SampleForm(forms.Form):
    name = forms.CharField(label="Whom to greet", initial="world", max_length=200)


class BusyForm(forms.Form):
    failures = forms.IntegerField(
        label="Tries that fail (0 to 9)", initial=1, min_value=0, max_value=9
    )


class PostForm(forms.Form):
    """Chooses a post with a cover."""

    post_id = forms.TypedChoiceField(
        label="Cover of",
        coerce=int,
        error_messages={"required": "No post has a cover yet. Give one a cover first."},
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        posts = Post.objects.exclude(cover="").order_by("-updated_at")
        self.fields["post_id"].choices = posts.values_list("pk", "title")[:50]


class NewsletterForm(forms.Form):
    """Chooses a published post."""

    post_id = forms.TypedChoiceField(
        label="Post",
        coerce=int,
        error_messages={"required": "No post is published yet. Publish one first."},
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["post_id"].choices = Post.objects.published().values_list("pk", "title")[:50]


class FeedForm(forms.Form):
    url = forms.URLField(
        label="Address of an RSS or Atom feed",
        initial="https://www.djangoproject.com/rss/weblog/",
        max_length=500,
        assume_scheme="https",
    )

    def clean_url(self):
        """Refuse a password before it stands in a message, in three tables and on each page."""
        url = self.cleaned_data["url"]
        if "@" in urlsplit(url).netloc:
            raise forms.ValidationError(
                "The address contains a user name or a password. Leave it out."
            )
        return url


class ReportForm(forms.Form):
    seconds = forms.FloatField(
        label="Seconds a part takes (0 to 20)", initial=2, min_value=0, max_value=20
    )
    fail = forms.ChoiceField(
        label="Part that fails",
        required=False,
        choices=[
            ("", "none"),
            ("collect_posts", "collect_posts"),
            ("count_words", "count_words"),
            ("count_links", "count_links"),
            ("combine_report", "combine_report"),
        ],
    )
