from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("posts", "0005_posts_from_before_the_newsletter"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="cancelled_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
