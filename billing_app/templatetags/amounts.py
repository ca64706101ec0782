from django import template

from billing_app.amounts import money

register = template.Library()
register.filter("money", money)
