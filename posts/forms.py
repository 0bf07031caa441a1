"""Forms of the blog. Each message names the value that is wrong and says what to do."""

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import FileExtensionValidator
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import slugify

from .markup import without_control_characters
from .models import Post

MAX_COVER_BYTES = 5 * 1024 * 1024
COVER_EXTENSIONS = ["avif", "gif", "jpeg", "jpg", "png", "webp"]  # What browsers can show.


class SearchForm(forms.Form):
    q = forms.CharField(
        label="Search posts",
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"type": "search"}),
    )


class SubscribeForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        error_messages={
            "required": "Type the address that the newsletter should go to.",
            "invalid": "“%(value)s” is not an e-mail address. Write it like ada@example.org.",
        },
    )


class PostForm(forms.ModelForm):
    class Meta:
        model = Post
        fields = ["title", "slug", "body", "cover", "cover_alt"]
        labels = {"slug": "Address", "body": "Text"}
        help_texts = {
            "slug": "The last part of the post's URL. Left blank, it is made from the title.",
            "body": "Markdown, with fenced code and tables.",
            "cover": "JPEG, PNG, WebP, AVIF or GIF, at most 5 MB, twice as wide as high.",
            "cover_alt": "What the cover shows, for those who cannot see it. "
            "Blank when it is decoration.",
        }
        widgets = {
            "body": forms.Textarea(attrs={"rows": 22, "spellcheck": "true"}),
            "cover": forms.ClearableFileInput(attrs={"accept": "image/*"}),
        }
        error_messages = {
            "title": {"required": "A post needs a title."},
            "body": {"required": "The text is empty. Write something, a draft may be short."},
        }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["slug"].required = False

    def clean_title(self):
        return without_control_characters(self.cleaned_data["title"])

    def clean_body(self):
        return without_control_characters(self.cleaned_data["body"])

    def clean_cover(self):
        cover = self.cleaned_data["cover"]
        if not isinstance(cover, UploadedFile):  # Kept as it was, or cleared.
            return cover
        if cover.size > MAX_COVER_BYTES:
            raise forms.ValidationError(
                f"“{cover.name}” has {filesizeformat(cover.size)}, and a cover may have "
                f"{filesizeformat(MAX_COVER_BYTES)}. Make it smaller and choose it again."
            )
        FileExtensionValidator(COVER_EXTENSIONS)(cover)
        return cover

    def clean(self):
        slug = self.cleaned_data.get("slug")
        others = Post.objects.exclude(pk=self.instance.pk)
        if slug and others.filter(slug=slug).exists():
            self.add_error(
                "slug",
                f"Another post has the address “{slug}”. Choose a different one, "
                "or leave it blank.",
            )
        elif not slug and "slug" not in self.errors and self.cleaned_data.get("title"):
            self.cleaned_data["slug"] = free_slug(self.cleaned_data["title"], others)
        return self.cleaned_data

    def save(self, commit=True):
        """Write this form's columns alone: beat may publish the post while somebody edits it."""
        post = super().save(commit=False)
        if commit:
            post.save(update_fields=[*self._meta.fields, "updated_at"] if post.pk else None)
        return post


class ScheduleForm(forms.Form):
    """When to publish. Sent together with the post's form, in which a blank date is fine."""

    use_required_attribute = False
    publish_at = forms.DateTimeField(
        label="Publish at",
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local", "form": "post-form"}, format="%Y-%m-%dT%H:%M"
        ),
        error_messages={"required": "Choose a date and a time."},
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["publish_at"].help_text = f"Time zone: {settings.TIME_ZONE}."

    def clean(self):
        if self.has_error("publish_at", "invalid"):
            typed = self.data["publish_at"]
            self.errors["publish_at"].data[:] = [
                forms.ValidationError(
                    f"“{typed}” is not a date and a time. Write it like 2030-01-31 09:00."
                )
            ]

    def clean_publish_at(self):
        when = self.cleaned_data["publish_at"]
        if when <= timezone.now():
            local = date_format(timezone.localtime(when), "j F Y, H:i")
            raise forms.ValidationError(f"{local} is past. Choose a later time, or publish now.")
        return when


def free_slug(title, others):
    """Make an address from a title that no other post has.

    Args:
        title (str): the title. One without Latin letters or digits gives «post».
        others (QuerySet): the posts to stay clear of.

    Returns:
        str: such as «hello», or «hello-2» when that is taken; at most 200 characters.
    """
    longest = Post._meta.get_field("slug").max_length
    base = slugify(title)[:longest].strip("-_") or "post"
    slug, number = base, 1
    while others.filter(slug=slug).exists():
        number += 1
        ending = f"-{number}"
        slug = base[: longest - len(ending)] + ending
    return slug
