from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("console", "0003_accounts_on_the_record")]

    operations = [
        migrations.AddField("partheartbeat", "ok", models.BooleanField(db_default=True, default=True)),
    ]
