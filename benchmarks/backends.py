"""Results backends side by side: how many results a second come back, and how soon one does."""

import statistics

from .table import Row

ROUNDS = 3
RESULTS = 600  # a round


def rows(lab):
    """Return the rows of this module. Takes about two minutes."""
    stock = lab.side("stock", "stock")
    redis = lab.redis.url
    sides = {
        "django-db": lab.side("django_db", "here", CELERY_RESULT_BACKEND="django-db"),
        "tasklog": lab.side("here", "here"),
        "django-cache, in Redis": lab.side(
            "cache", "here", CELERY_RESULT_BACKEND="django-cache", CACHE_URL=redis(2)
        ),
        "redis": lab.side("redis", "here", CELERY_RESULT_BACKEND=redis(1)),
        "rpc": lab.side("rpc", "here", CELERY_RESULT_BACKEND="rpc://"),
    }
    rates = {side.name: [] for side in (stock, *sides.values())}
    for _ in range(ROUNDS):
        for name in rates:
            rates[name].append(float(lab.sides[name].call("rate_of_results", RESULTS)))
    rate = {name: statistics.median(found) for name, found in rates.items()}
    pause = {name: float(lab.sides[name].call("median_get", 20)) for name in rates}
    several = [
        Row(f"results a second, {label}", rate["stock"], rate[side.name])
        for label, side in sides.items()
    ]
    one = [
        Row(f"ms for delay().get(), {label}", pause["stock"], pause[side.name])
        for label, side in sides.items()
    ]
    return several + one
