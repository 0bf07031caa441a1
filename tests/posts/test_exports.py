"""The archive that an export writes, without Celery."""

import zipfile

import pytest

from posts import exports
from posts.exports import as_markdown, write_export
from posts.models import Export
from posts.tasks.export import export_blog


def test_all_posts_are_in_the_archive(make_post, tmp_path):
    make_post("One")
    make_post("Two", status="draft")
    path = tmp_path / "new" / "blog.zip"
    assert write_export(path) == 2
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["posts/one.md", "posts/two.md"]
        assert "The text of One." in archive.read("posts/one.md").decode()


def test_a_post_as_markdown_has_its_metadata_at_the_top(make_post):
    post = make_post('A "quoted": title', slug="quoted", body="First\r\nsecond\r\n", days=-1)
    assert as_markdown(post) == (
        "---\n"
        'title: "A \\"quoted\\": title"\n'
        'author: "ada"\n'
        'status: "published"\n'
        f'date: "{post.published_at.isoformat()}"\n'
        "---\n"
        "\n"
        "First\nsecond\n"
    )


def test_an_empty_blog_makes_an_empty_archive(db, tmp_path):
    assert write_export(tmp_path / "blog.zip") == 0
    assert zipfile.ZipFile(tmp_path / "blog.zip").namelist() == []


def test_progress_is_told_from_nothing_to_all(make_post, tmp_path):
    for title in ("One", "Two", "Three"):
        make_post(title)
    told = []
    write_export(tmp_path / "blog.zip", lambda *step: told.append(step))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_keeps_the_older_archive_and_leaves_nothing_half(
    make_post, tmp_path, monkeypatch, error
):
    make_post("One")
    path = tmp_path / "blog.zip"
    write_export(path)
    before = path.read_bytes()

    def fail(post):
        raise error

    monkeypatch.setattr(exports, "as_markdown", fail)
    with pytest.raises(type(error)):
        write_export(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_task_run_twice_leaves_one_archive(author, make_post, settings, tmp_path, monkeypatch):
    """Its docstring says so: safe to run twice."""
    settings.EXPORT_ROOT, settings.EXPORT_SECONDS = tmp_path, 0
    make_post("One")
    monkeypatch.setattr(export_blog, "update_state", lambda **kwargs: None)
    task_id = "3f2b0c52-0000-4000-8000-000000000000"
    for _ in range(2):
        export_blog.push_request(id=task_id)
        try:
            result = export_blog.run(owner_id=author.pk)
        finally:
            export_blog.pop_request()
    export = Export.objects.get()
    assert (export.owner, str(export.task_id)) == (author, task_id)
    (path,) = tmp_path.iterdir()
    assert path.name == export.file.name
    assert result == {"posts": 1, "bytes": path.stat().st_size}
