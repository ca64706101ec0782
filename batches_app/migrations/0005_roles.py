from django.db import migrations

from batches_app.roles import create_groups


class Migration(migrations.Migration):
    dependencies = [
        ("batches_app", "0004_operator_permissions"),
        ("billing_app", "0005_operator_permissions"),
        ("files_app", "0002_count_what_is_kept"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    # Back: the groups stay, for operators may be in them.
    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop)]
