"""The clock: rings the reconciler. RQ's own cron pickles its jobs, which the workers here refuse."""

import time

from django.conf import settings

from batches_app import queue


def run_forever() -> None:
    while True:
        ring_reconciler()
        time.sleep(settings.RECONCILE_INTERVAL)


def ring_reconciler() -> None:
    interval = int(settings.RECONCILE_INTERVAL)
    queue.ring(queue.Job.RECONCILE, once_per=str(int(time.time()) // interval), ttl=interval)
