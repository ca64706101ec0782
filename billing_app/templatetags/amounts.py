from django import template

from billing_app.amounts import money
from config.console.scales import short

register = template.Library()
register.filter("money", money)
register.filter("compact", short)
