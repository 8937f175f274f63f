"""Manifests for Kubernetes: a CronJob for each source, or one StatefulSet that looks at the clock itself."""

from typing import Any

from pipeline.deploying.calendars import plain_cron
from pipeline.deploying.image import CONFIGURATION, DOCUMENTS, HEALTH_PORT, STATE, USER_ID
from pipeline.deploying.plan import (
    CATCH_UP_S,
    LATE_S,
    RUNS_AT_ONCE,
    STOP_S,
    Deployment,
    GeneratedFile,
    Source,
    comment,
    yaml_text,
)

STATE_SIZE = "1Gi"

Json = dict[str, Any]


def kubernetes_files(deployment: Deployment) -> list[GeneratedFile]:
    """One file with all manifests.

    Raises:
        ConfigurationError: Kubernetes has no words for a schedule.
    """
    if deployment.is_service:
        manifests = [_account(deployment), _configuration("memsync", deployment.sources), *_stateful_set(deployment)]
    else:
        manifests = [_account(deployment)]
        for source in deployment.sources:
            manifests.append(_configuration(f"memsync-{source.slug}", [source]))
            manifests.append(_state_claim(f"memsync-{source.slug}"))
            manifests.append(_cron_job(deployment, source))
    return [GeneratedFile("memsync.yaml", _head(deployment) + yaml_text(*manifests))]


def _head(deployment: Deployment) -> str:
    lines = [
        "To install it, in the namespace of your choice:",
        "  kubectl apply -f memsync.yaml",
        f"The image {deployment.image} is what the Containerfile of memsync makes.",
    ]
    for name, variables in _secrets(deployment).items():
        literals = " ".join(f'--from-literal={variable}="${variable}"' for variable in variables)
        lines += ["", "The secrets, once, from variables of your shell:"]
        lines += [f"  kubectl create secret generic {name} {literals}"]
    for source in deployment.sources:
        if source.documents is not None:
            lines += ["", f"{source.name} reads {source.documents}: have the volume claim {_documents_claim(source)}"]
            lines += ["hold what is there."]
    if deployment.role_arn is None and any(map(_asks_aws, deployment.sources)):
        lines += ["", "The pods need AWS credentials: --role-arn names the role of their service account (EKS, IRSA)."]
    if any(source.settings.schedule_zone is None for source in deployment.sources):
        lines += ["", "Without `schedule_zone` the times are those of the cluster, which mostly means UTC."]
    return comment(*lines)


def _asks_aws(source: Source) -> bool:
    """Whether a run asks AWS for something: its memory, its documents or its secrets."""
    has_secrets = any(reference.scheme in ("aws-sm", "ssm") for reference in source.references)
    settings = source.settings
    return not settings.destination.is_on_this_machine or settings.source.type == "s3" or has_secrets


def _secrets(deployment: Deployment) -> dict[str, list[str]]:
    """The variables that each Secret must hold."""
    if deployment.is_service:
        return {"memsync": deployment.variables} if deployment.variables else {}
    return {f"memsync-{source.slug}": source.variables for source in deployment.sources if source.variables}


def _documents_claim(source: Source) -> str:
    return f"memsync-{source.slug}-documents"


def _labels(name: str) -> Json:
    return {"app.kubernetes.io/name": "memsync", "app.kubernetes.io/instance": name}


def _metadata(name: str) -> Json:
    return {"name": name, "labels": _labels(name)}


def _account(deployment: Deployment) -> Json:
    metadata = _metadata("memsync")
    if deployment.role_arn is not None:
        metadata["annotations"] = {"eks.amazonaws.com/role-arn": deployment.role_arn}
    # It calls AWS and nothing of the cluster.
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _configuration(name: str, sources: Any) -> Json:
    files = {
        f"{source.slug}.yaml": source.moved_yaml(state=STATE, documents=f"{DOCUMENTS}/{source.slug}")
        for source in sources
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name), "data": files}


def _claim_spec() -> Json:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": STATE_SIZE}}}


def _state_claim(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(name),
        "spec": _claim_spec(),
    }


def _cron_job(deployment: Deployment, source: Source) -> Json:
    name = f"memsync-{source.slug}"
    # What is done but for dead letters, or was done by another run, is no failure to Kubernetes.
    arguments = ["run", f"{CONFIGURATION}/{source.slug}.yaml", "--accept", "3", "--accept", "5"]
    pod = _pod(deployment, name, [source], arguments, runs_at_once=1)
    pod["restartPolicy"] = "Never"
    pod["volumes"].append({"name": "state", "persistentVolumeClaim": {"claimName": name}})
    spec: Json = {"schedule": source.said(lambda: plain_cron(source.schedule), "Kubernetes")}
    if source.settings.schedule_zone is not None:
        spec["timeZone"] = source.settings.schedule_zone
    spec |= {
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": CATCH_UP_S if source.settings.schedule_catch_up else LATE_S,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {
            "spec": {
                "backoffLimit": 3,
                "podFailurePolicy": {
                    "rules": [
                        # A node that is drained is nobody's failure.
                        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                        # The configuration, and the guard against mass deletion, are for a person to look at.
                        {
                            "action": "FailJob",
                            "onExitCodes": {"containerName": "memsync", "operator": "In", "values": [2, 4]},
                        },
                    ]
                },
                "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
            }
        },
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _metadata(name), "spec": spec}


def _stateful_set(deployment: Deployment) -> list[Json]:
    name = "memsync"
    arguments = ["schedule", CONFIGURATION, "--health-host", "0.0.0.0", "--health-port", str(HEALTH_PORT)]  # noqa: S104 - probes come from outside of the pod
    pod = _pod(deployment, name, deployment.sources, arguments, runs_at_once=RUNS_AT_ONCE)
    (container,) = pod["containers"]
    container["ports"] = [{"name": "health", "containerPort": HEALTH_PORT}]
    container["livenessProbe"] = _probe("/healthz")
    container["readinessProbe"] = _probe("/readyz")
    spec = {
        "replicas": 1,
        "serviceName": name,
        "selector": {"matchLabels": _labels(name)},
        "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
        "volumeClaimTemplates": [{"metadata": {"name": "state"}, "spec": _claim_spec()}],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name),
        "spec": {
            "clusterIP": "None",
            "selector": _labels(name),
            "ports": [{"name": "health", "port": HEALTH_PORT}],
        },
    }
    stateful_set = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": _metadata(name), "spec": spec}
    return [service, stateful_set]


def _probe(path: str) -> Json:
    return {
        "httpGet": {"path": path, "port": "health"},
        "initialDelaySeconds": 10,
        "periodSeconds": 30,
        "timeoutSeconds": 5,
    }


def _pod(deployment: Deployment, name: str, sources: Any, arguments: list[str], *, runs_at_once: int) -> Json:
    mounts = [
        {"name": "configuration", "mountPath": CONFIGURATION, "readOnly": True},
        {"name": "state", "mountPath": STATE},
        {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - in the container
    ]
    volumes: list[Json] = [
        {"name": "configuration", "configMap": {"name": name}},
        {"name": "temporary", "emptyDir": {"sizeLimit": "2Gi"}},
    ]
    for number, source in enumerate(source for source in sources if source.documents is not None):
        volume = f"documents-{number}"
        mounts.append({"name": volume, "mountPath": f"{DOCUMENTS}/{source.slug}", "readOnly": True})
        claim = {"claimName": _documents_claim(source), "readOnly": True}
        volumes.append({"name": volume, "persistentVolumeClaim": claim})
    variables = dict.fromkeys(variable for source in sources for variable in source.variables)
    memory = f"{deployment.memory_mib * runs_at_once}Mi"
    container: Json = {
        "name": "memsync",
        "image": deployment.image,
        "args": arguments,
        "env": [
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": variable}}} for variable in variables
        ],
        "resources": {"requests": {"cpu": "250m", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if not variables:
        del container["env"]
    return {
        "serviceAccountName": "memsync",
        "terminationGracePeriodSeconds": STOP_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
