"""Which files are made for whom."""

from collections.abc import Callable, Mapping

from pipeline.deploying.cron import cron_files
from pipeline.deploying.ecs import ecs_files
from pipeline.deploying.kubernetes import kubernetes_files
from pipeline.deploying.lambda_functions import lambda_files
from pipeline.deploying.plan import Deployment, GeneratedFile
from pipeline.deploying.systemd import systemd_files

RENDERERS: Mapping[str, Callable[[Deployment], list[GeneratedFile]]] = {
    "systemd": systemd_files,
    "cron": cron_files,
    "kubernetes": kubernetes_files,
    "ecs": ecs_files,
    "lambda": lambda_files,
}
