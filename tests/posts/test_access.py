import pytest

from posts.models import Newsletter, Post

from .helpers import TYPED, text_of

PAGES = ["/write/", "/write/new/", "/write/{pk}/", "/write/{pk}/analysis/"]
ACTIONS = ["publish", "schedule", "unpublish", "preview"]


@pytest.mark.parametrize("url", PAGES)
def test_strangers_are_sent_to_the_login_and_back(client, make_post, url):
    url = url.format(pk=make_post().pk)
    response = client.get(url)
    assert (response.status_code, response.url) == (302, f"/accounts/login/?next={url}")


@pytest.mark.parametrize("url", PAGES)
def test_people_who_are_not_staff_are_told_so(reader, make_post, url):
    response = reader.get(url.format(pk=make_post().pk))
    assert response.status_code == 403
    assert "your account is not a staff account" in text_of(response)


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_are_for_staff(reader, make_post, action):
    post = make_post(status="draft")
    assert reader.post(f"/write/{post.pk}/{action}/", TYPED).status_code == 403
    reader.logout()
    assert reader.post(f"/write/{post.pk}/{action}/", TYPED).status_code == 302
    post.refresh_from_db()
    assert (post.status, post.title) == ("draft", "Hello")


@pytest.mark.parametrize("action", ACTIONS)
def test_only_a_post_acts_and_a_get_shows_the_edit_page(writer, make_post, action):
    post = make_post(status="draft")
    assert writer.get(f"/write/{post.pk}/{action}/").url == f"/write/{post.pk}/"
    assert Post.objects.get().status == "draft"
    assert writer.get("/write/preview/").url == "/write/new/"


def test_a_lost_session_moves_the_whole_page_and_not_a_corner_of_it(client, make_post):
    pk = make_post().pk
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver/write/{pk}/"}
    response = client.get(f"/write/{pk}/analysis/", headers=headers)
    assert response.headers["HX-Redirect"] == f"/accounts/login/?next=/write/{pk}/"


def test_signing_in_and_out(client, author):
    author.set_password("correct horse")
    author.save()
    wrong = client.post("/accounts/login/", {"username": "ada", "password": "x"})
    assert 'value="ada"' in text_of(wrong)
    assert 'role="alert"' in text_of(wrong)
    typed = {"username": "ada", "password": "correct horse", "next": "/write/"}
    assert client.post("/accounts/login/", typed).url == "/write/"
    assert client.get("/write/").status_code == 200
    client.post("/accounts/logout/")
    assert client.get("/write/").status_code == 302


@pytest.mark.parametrize("url", ["/newsletter/", "/newsletter/check/"])
def test_the_newsletter_is_for_everybody(client, db, url):
    response = client.get(url)
    assert response.status_code == 200
    assert "sessionid" not in response.cookies


@pytest.mark.parametrize("action", ["publish", "schedule", "unpublish"])
def test_who_may_not_publish_sends_no_newsletter(reader, make_post, action):
    post = make_post(status="draft")
    reader.post(f"/write/{post.pk}/{action}/", TYPED)
    assert not Newsletter.objects.exists()


@pytest.mark.parametrize(
    "model", ["subscriber", "newsletter", "delivery", "feed", "feedentry", "digestmail"]
)
def test_mail_and_feeds_are_in_the_admin_for_those_who_may(writer, model):
    """The author is staff, but was given no rights to these tables."""
    assert writer.get(f"/admin/posts/{model}/").status_code == 403
