# One image for web, workers, beat, Flower and the migration; a second, `test`, for the tests.
#
#   docker build -t blog .                     the site
#   docker build -t blog-test --target test .  the same with what the tests need

ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS base
# Programs of the environment first. Unbuffered: a log line is out before a crash.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app

# --- Packages: rebuilt only when Pipfile.lock changes ---------------------------------------------

FROM base AS packages
# The version that the Makefile names.
ARG PIPENV=2026.10.3
# Caches outside the image: a changed lock file downloads only what is new.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /pipenv && /pipenv/bin/pip install --quiet pipenv==${PIPENV}
COPY Pipfile Pipfile.lock ./
# Without pip of its own: what runs in production installs nothing. --only-binary: no compiler is
# ever needed, here or in the final image. The hashes in the lock file are checked.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && /pipenv/bin/pipenv requirements --hash > /tmp/requirements.txt \
    && pip --python /venv/bin/python install --only-binary :all: -r /tmp/requirements.txt

# --- The site's files, with static files collected ------------------------------------------------

FROM packages AS site
COPY . .
RUN rm -rf .ci .dockerignore .github Dockerfile Makefile Pipfile Pipfile.lock pyproject.toml mkdocs.yml *.md \
      benchmarks docker-compose*.yml docs tests \
    && python -m compileall -q .
# What the site writes lies outside the code, which stays read-only. See STATE_DIR in .env.example.
ENV STATE_DIR=/state
# This key signs nothing: it ends with the command.
RUN SECRET_KEY=only-while-building ALLOWED_HOSTS=localhost \
    python manage.py collectstatic --no-input --verbosity 0

# --- Tests: docker compose run --rm test ----------------------------------------------------------

FROM packages AS test
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends curl make postgresql redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /pipenv/bin/pipenv /usr/local/bin/
RUN --mount=type=cache,target=/root/.cache/pip \
    /pipenv/bin/pipenv requirements --dev --hash > /tmp/requirements.txt \
    && pip --python /venv/bin/python install --only-binary :all: -r /tmp/requirements.txt
COPY . .
RUN useradd --uid 10001 --create-home blog && chown blog: .
USER blog
CMD ["pytest"]

# --- The image that runs --------------------------------------------------------------------------

FROM base AS final
LABEL org.opencontainers.image.title="Django + Celery" \
      org.opencontainers.image.description="A blog that hands its slow work to Celery" \
      org.opencontainers.image.licenses="BSD-3-Clause"
# A fixed number, so that files on volumes belong to the same user after every build.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin blog \
    && install -d -o blog -g blog /state /state/media /state/exports /state/heartbeats /app/var
ENV STATE_DIR=/state
COPY --from=packages /venv /venv
COPY --from=site /state/static /state/static
COPY --from=site /app /app
USER blog
CMD ["gunicorn", "blog.wsgi", "--bind", "0.0.0.0:8000", "--threads", "4", \
     "--worker-tmp-dir", "/dev/shm", "--access-logfile", "-", "--no-control-socket"]
