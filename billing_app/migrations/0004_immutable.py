from django.db import migrations, models

from billing_app.immutability import protect_all, unprotect_all


class Migration(migrations.Migration):
    dependencies = [("billing_app", "0003_book_what_was_used")]

    operations = [
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'usage'), _negated=True), models.Q(('amount__lte', 0), ('held__lte', 0), ('price__isnull', False)), _connector='OR'), name='usage_costs_and_has_a_price'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'top_up'), _negated=True), models.Q(('amount__gt', 0), ('held', 0)), _connector='OR'), name='top_up_adds'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'adjustment'), _negated=True), models.Q(models.Q(('amount', 0), _negated=True), models.Q(('reason', ''), _negated=True), ('held', 0)), _connector='OR'), name='adjustment_has_a_reason'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'hold_placed'), _negated=True), models.Q(('amount', 0), ('held__gte', 0)), _connector='OR'), name='placing_a_hold_moves_no_money'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'hold_released'), _negated=True), models.Q(('amount', 0), ('held__lte', 0)), _connector='OR'), name='releasing_a_hold_moves_no_money'),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('input_price__gte', 0), ('output_price__gte', 0), models.Q(('cached_input_price', None), ('cached_input_price__gte', 0), _connector='OR')), name='price_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('batch_discount__gte', 0), ('batch_discount__lte', 1)), name='batch_discount_from_0_to_1'),
        ),
        migrations.RunPython(protect_all, unprotect_all),
    ]
