"""Value: how much will a customer spend, less what is refunded?"""

from training.spending import spending

VALUE = spending("value", days=90)
