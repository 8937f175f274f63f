"""Containers on ECS, that EventBridge Scheduler starts, or one that stays up."""

import math

from pipeline.deploying.cloudformation import (
    Json,
    allow,
    attribute,
    image_files,
    memory_policy,
    ref,
    refuse_folders,
    role,
    schedules,
    shared_resources,
    substituted,
    template_file,
    template_of,
)
from pipeline.deploying.image import CONFIGURATION, HEALTH_PORT, STATE, health_check
from pipeline.deploying.plan import RUNS_AT_ONCE, STOP_S, Deployment, GeneratedFile
from pipeline.errors import ConfigurationError

# Fargate's sizes: for 1024 units of a processor, 2 to 8 GiB in steps of one.
FARGATE_CPU, FARGATE_MIB_MIN, FARGATE_MIB_MAX = "1024", 2048, 8192


def ecs_files(deployment: Deployment) -> list[GeneratedFile]:
    """The template, and the files of which the image is made.

    Raises:
        ConfigurationError: EventBridge has no words for a schedule.
    """
    refuse_folders(deployment)
    runs_at_once = RUNS_AT_ONCE if deployment.is_service else 1
    memory_mib = _fargate_mib(deployment.memory_mib * runs_at_once)
    resources = shared_resources()
    resources["Cluster"] = {"Type": "AWS::ECS::Cluster"}
    resources["ExecutionRole"] = _execution_role(deployment)
    resources["TaskRole"] = role("ecs-tasks.amazonaws.com", [memory_policy(deployment)])
    if deployment.is_service:
        arguments = ["schedule", CONFIGURATION, "--health-port", str(HEALTH_PORT)]
        resources["Task"] = _task(deployment, "memsync", arguments, memory_mib, has_health=True)
        resources["Service"] = _service()
    else:
        resources["SchedulerRole"] = role("scheduler.amazonaws.com", [_may_run_tasks(deployment)])
        for number, source in enumerate(deployment.sources):
            arguments = ["run", f"{CONFIGURATION}/{source.slug}.yaml"]
            resources[f"Task{number}"] = _task(deployment, source.slug, arguments, memory_mib)
            resources |= schedules(source, number, _target(number))
    template = template_of("memsync on ECS", deployment, resources)
    return [template_file(deployment, template), *image_files(deployment, STATE)]


def _task(
    deployment: Deployment, stream: str, arguments: list[str], memory_mib: int, *, has_health: bool = False
) -> Json:
    container: Json = {
        "Name": "memsync",
        "Image": ref("Image"),
        "Essential": True,
        "Command": arguments,
        "ReadonlyRootFilesystem": True,
        "StopTimeout": STOP_S,
        "LinuxParameters": {"InitProcessEnabled": True},
        "MountPoints": [
            {"SourceVolume": "state", "ContainerPath": STATE},
            {"SourceVolume": "temporary", "ContainerPath": "/tmp"},  # noqa: S108 - in the container
        ],
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": ref("Log"),
                "awslogs-region": ref("AWS::Region"),
                "awslogs-stream-prefix": stream,
            },
        },
    }
    if deployment.variables:
        container["Secrets"] = [
            {"Name": variable, "ValueFrom": ref(f"Secret{number}")}
            for number, variable in enumerate(deployment.variables)
        ]
    if has_health:
        container["HealthCheck"] = {
            "Command": ["CMD", "python", "-c", health_check(HEALTH_PORT)],
            "Interval": 30,
            "StartPeriod": 60,
        }
    state = {
        "FilesystemId": ref("State"),
        "TransitEncryption": "ENABLED",
        "AuthorizationConfig": {"AccessPointId": ref("StateAccess")},
    }
    return {
        "Type": "AWS::ECS::TaskDefinition",
        "DependsOn": ["StateMountA", "StateMountB"],
        "Properties": {
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": FARGATE_CPU,
            "Memory": str(memory_mib),
            "ExecutionRoleArn": attribute("ExecutionRole", "Arn"),
            "TaskRoleArn": attribute("TaskRole", "Arn"),
            "Volumes": [{"Name": "state", "EFSVolumeConfiguration": state}, {"Name": "temporary"}],
            "ContainerDefinitions": [container],
        },
    }


def _target(number: int) -> Json:
    network = {
        "AssignPublicIp": "DISABLED",
        "SecurityGroups": [attribute("MemsyncGroup", "GroupId")],
        "Subnets": [ref("SubnetA"), ref("SubnetB")],
    }
    return {
        "Arn": attribute("Cluster", "Arn"),
        "EcsParameters": {
            "TaskDefinitionArn": ref(f"Task{number}"),
            "LaunchType": "FARGATE",
            "NetworkConfiguration": {"AwsvpcConfiguration": network},
        },
    }


def _service() -> Json:
    return {
        "Type": "AWS::ECS::Service",
        "Properties": {
            "Cluster": ref("Cluster"),
            "LaunchType": "FARGATE",
            "TaskDefinition": ref("Task"),
            "DesiredCount": 1,
            # The old one ends before the new one begins: there is one state.
            "DeploymentConfiguration": {"MinimumHealthyPercent": 0, "MaximumPercent": 100},
            "NetworkConfiguration": {
                "AwsvpcConfiguration": {
                    "AssignPublicIp": "DISABLED",
                    "SecurityGroups": [attribute("MemsyncGroup", "GroupId")],
                    "Subnets": [ref("SubnetA"), ref("SubnetB")],
                }
            },
        },
    }


def _execution_role(deployment: Deployment) -> Json:
    execution = role("ecs-tasks.amazonaws.com", _may_read_secrets(deployment))
    managed = "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    execution["Properties"]["ManagedPolicyArns"] = [substituted(managed)]
    return execution


def _may_read_secrets(deployment: Deployment) -> list[Json]:
    secrets = [ref(f"Secret{number}") for number in range(len(deployment.variables))]
    if not secrets:
        return []
    return [{"PolicyName": "secrets", "PolicyDocument": allow(["secretsmanager:GetSecretValue"], secrets)}]


def _may_run_tasks(deployment: Deployment) -> Json:
    tasks = [ref(f"Task{number}") for number in range(len(deployment.sources))]
    document = allow(["ecs:RunTask"], tasks)
    roles = [attribute("ExecutionRole", "Arn"), attribute("TaskRole", "Arn")]
    document["Statement"].append({"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": roles})
    return {"PolicyName": "run", "PolicyDocument": document}


def _fargate_mib(wanted_mib: int) -> int:
    """The smallest size of a task that holds so much."""
    size_mib = max(FARGATE_MIB_MIN, math.ceil(wanted_mib / 1024) * 1024)
    if size_mib > FARGATE_MIB_MAX:
        raise ConfigurationError(
            f"--memory: {wanted_mib} MiB is more than a task with one processor can have, {FARGATE_MIB_MAX}."
            " Nothing was written."
        )
    return size_mib
