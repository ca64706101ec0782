import billing_app.models.accounts
import billing_app.models.fields
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing_app', '0001_initial'),
    ]

    operations = [
        migrations.RenameModel('UsageEntry', 'LedgerEntry'),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now, verbose_name='when')),
                ('actor', models.CharField(max_length=150, verbose_name='who')),
                ('address', models.CharField(blank=True, max_length=64, verbose_name='from where')),
                ('action', models.CharField(help_text='Such as price.added, key.revoked.', max_length=64, verbose_name='what')),
                ('target', models.CharField(max_length=200, verbose_name='on what')),
                ('account', models.CharField(blank=True, db_index=True, max_length=100)),
                ('changes', models.JSONField(blank=True, default=dict, help_text="Each field's value before and after.")),
                ('reason', models.CharField(blank=True, max_length=500, verbose_name='why')),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Balance',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='balance', serialize=False, to='billing_app.account')),
                ('is_prepaid', models.BooleanField(default=False)),
                ('available', billing_app.models.fields.ExactDecimalField(default=0)),
                ('held', billing_app.models.fields.ExactDecimalField(default=0)),
                ('closed_through', models.CharField(blank=True, help_text='The last month that was closed.', max_length=7)),
            ],
        ),
        migrations.CreateModel(
            name='BudgetAlert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.CharField(max_length=7)),
                ('percent', models.PositiveSmallIntegerField()),
                ('budget', billing_app.models.fields.ExactDecimalField()),
                ('spent', billing_app.models.fields.ExactDecimalField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('claimed_until', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ClosedMonth',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.CharField(max_length=7)),
                ('opening', billing_app.models.fields.ExactDecimalField()),
                ('closing', billing_app.models.fields.ExactDecimalField()),
                ('closed_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['-month'],
            },
        ),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('batch_id', models.CharField(max_length=64, unique=True)),
                ('placed', billing_app.models.fields.ExactDecimalField()),
                ('left', billing_app.models.fields.ExactDecimalField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('released_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='MonthlySpend',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('api_key_id', models.BigIntegerField(default=0, help_text='0: none.')),
                ('month', models.CharField(max_length=7)),
                ('amount', billing_app.models.fields.ExactDecimalField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='RateLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('files.create', 'files.create'), ('files.list', 'files.list'), ('files.retrieve', 'files.retrieve'), ('files.delete', 'files.delete'), ('files.content', 'files.content'), ('batches.create', 'batches.create'), ('batches.list', 'batches.list'), ('batches.retrieve', 'batches.retrieve'), ('batches.cancel', 'batches.cancel'), ('batches.estimate', 'batches.estimate'), ('models', 'models'), ('usage', 'usage')], max_length=32)),
                ('per_minute', models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='Reservation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('bytes', models.PositiveBigIntegerField()),
                ('idempotency_key', models.CharField(blank=True, max_length=255)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name='StorageUse',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='storage_use', serialize=False, to='billing_app.account')),
                ('files', models.PositiveIntegerField(default=0)),
                ('bytes', models.PositiveBigIntegerField(default=0)),
                ('pending_files', models.PositiveIntegerField(default=0)),
                ('pending_bytes', models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.AlterModelOptions(
            name='apikey',
            options={'ordering': ['-id'], 'verbose_name': 'API key'},
        ),
        migrations.AlterModelOptions(
            name='ledgerentry',
            options={'ordering': ['-id'], 'verbose_name_plural': 'ledger entries'},
        ),
        migrations.RenameIndex(
            model_name='ledgerentry',
            new_name='entries_by_time',
            old_name='usage_by_account',
        ),
        migrations.AddField(
            model_name='account',
            name='alert_email',
            field=models.EmailField(blank=True, help_text='Who is told when the budget is used up to 50, 80, 100 %.', max_length=254),
        ),
        migrations.AddField(
            model_name='account',
            name='budget_is_hard',
            field=models.BooleanField(default=False, help_text='Once it is used up, new batches are refused; running ones go on.', verbose_name='stop at the budget'),
        ),
        migrations.AddField(
            model_name='account',
            name='max_active_batches',
            field=models.PositiveIntegerField(blank=True, help_text='Batches that have not ended yet, at most. Empty: no limit.', null=True),
        ),
        migrations.AddField(
            model_name='account',
            name='max_bytes',
            field=models.PositiveBigIntegerField(default=billing_app.models.accounts.default_bytes, help_text='Bytes that it may keep (F9).'),
        ),
        migrations.AddField(
            model_name='account',
            name='max_files',
            field=models.PositiveIntegerField(default=billing_app.models.accounts.default_files, help_text='Files that it may keep (F9).'),
        ),
        migrations.AddField(
            model_name='account',
            name='monthly_budget',
            field=billing_app.models.fields.ExactDecimalField(blank=True, help_text='Alerts are given at 50, 80 and 100 % of it. Empty: no budget.', null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='monthly_limit',
            field=billing_app.models.fields.ExactDecimalField(blank=True, help_text='Once it has spent so much in a month, its new batches are refused.', null=True),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='held',
            field=billing_app.models.fields.ExactDecimalField(default=0),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('usage', 'Usage'), ('top_up', 'top-up'), ('adjustment', 'Adjustment'), ('hold_placed', 'hold placed'), ('hold_released', 'hold released')], default='usage', max_length=16),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='made_by',
            field=models.CharField(blank=True, max_length=150),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='month',
            field=models.CharField(default='', help_text='Of the statement that it is on: 2026-11.', max_length=7),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='reason',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name='price',
            name='cached_input_price',
            field=billing_app.models.fields.ExactDecimalField(blank=True, help_text='Of input tokens that the upstream had in its cache. Empty: the input price.', null=True),
        ),
        migrations.AlterField(
            model_name='account',
            name='is_enabled',
            field=models.BooleanField(default=True, help_text='A disabled account is refused with 403.', verbose_name='enabled'),
        ),
        migrations.AlterField(
            model_name='account',
            name='weight',
            field=models.PositiveSmallIntegerField(default=1, help_text='Share of a model that is busy: 2 gets twice 1.', validators=[django.core.validators.MinValueValidator(1)]),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='hint',
            field=models.CharField(editable=False, help_text='Its first and last four characters.', max_length=16, verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='name',
            field=models.CharField(blank=True, help_text='What it is for.', max_length=100),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='billing_app.account'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='api_key',
            field=models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='billing_app.apikey'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='batch_id',
            field=models.CharField(blank=True, db_index=True, max_length=64, verbose_name='batch'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='cached_tokens',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='input_tokens',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='key',
            field=models.CharField(editable=False, max_length=200, unique=True),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='model_name',
            field=models.CharField(blank=True, max_length=200, verbose_name='model'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='output_tokens',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='price',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing_app.price'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='reasoning_tokens',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='requests',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='price',
            name='batch_discount',
            field=billing_app.models.fields.ExactDecimalField(help_text='Factor on the real-time price: 0.5 charges half.'),
        ),
        migrations.AlterField(
            model_name='price',
            name='effective_from',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text='Batches created from then on pay it.'),
        ),
        migrations.AlterField(
            model_name='price',
            name='model_name',
            field=models.CharField(max_length=200, verbose_name='model'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(fields=['account', 'month'], name='entries_by_month'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('monthly_budget', None), ('monthly_budget__gte', 0), _connector='OR'), name='account_budget_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='balance',
            constraint=models.CheckConstraint(condition=models.Q(('is_prepaid', False), ('available__gte', 0), _connector='OR'), name='prepaid_balance_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='balance',
            constraint=models.CheckConstraint(condition=models.Q(('held__gte', 0)), name='held_not_negative'),
        ),
        migrations.AddField(
            model_name='budgetalert',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='budget_alerts', to='billing_app.account'),
        ),
        migrations.AddField(
            model_name='closedmonth',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='closed_months', to='billing_app.account'),
        ),
        migrations.AddField(
            model_name='hold',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='holds', to='billing_app.account'),
        ),
        migrations.AddField(
            model_name='monthlyspend',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='monthly_spends', to='billing_app.account'),
        ),
        migrations.AddField(
            model_name='ratelimit',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rate_limits', to='billing_app.account'),
        ),
        migrations.AddField(
            model_name='reservation',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='reservations', to='billing_app.account'),
        ),
        migrations.AddIndex(
            model_name='budgetalert',
            index=models.Index(condition=models.Q(('sent_at', None)), fields=['created_at'], name='alerts_to_send'),
        ),
        migrations.AddConstraint(
            model_name='budgetalert',
            constraint=models.UniqueConstraint(fields=('account', 'month', 'percent', 'budget'), name='one_alert_per_crossing'),
        ),
        migrations.AddConstraint(
            model_name='closedmonth',
            constraint=models.UniqueConstraint(fields=('account', 'month'), name='a_month_is_closed_once'),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('released_at', None)), fields=['account'], name='open_holds'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('left__gte', 0)), name='hold_not_overdrawn'),
        ),
        migrations.AddConstraint(
            model_name='monthlyspend',
            constraint=models.UniqueConstraint(fields=('account', 'month', 'api_key_id'), name='one_spend_per_month'),
        ),
        migrations.AddConstraint(
            model_name='ratelimit',
            constraint=models.UniqueConstraint(fields=('account', 'scope'), name='one_rate_limit_per_scope'),
        ),
    ]
