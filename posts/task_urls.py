from django.urls import path

from .views import queues, tasks

urlpatterns = [
    path("", tasks.dashboard, name="tasks"),
    path("workers/", tasks.workers, name="workers"),
    path("queues/", queues.queues, name="queues"),
    path("run/<str:name>/", tasks.start, name="start_task"),
    path("poll/", tasks.poll, name="poll"),
    path("runs/", tasks.runs, name="runs"),
    path("runs/<uuid:task_id>/", tasks.run, name="run"),
    path("runs/<uuid:task_id>/again/", tasks.again, name="again"),
    path("runs/<uuid:task_id>/cancel/", tasks.cancel, name="cancel"),
    path("sample/", tasks.SampleView.as_view(), name="sample"),
    path("export/", tasks.export, name="export"),
    path("export/<uuid:task_id>/", tasks.export_status, name="export_status"),
    path("export/<uuid:task_id>/download/", tasks.download, name="download"),
]
