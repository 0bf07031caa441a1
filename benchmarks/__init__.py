"""Side by side, on this machine: Celery as it comes and this project. `make bench`."""
