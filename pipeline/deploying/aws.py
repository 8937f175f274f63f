"""CloudFormation for AWS: containers on ECS, or functions on Lambda, that EventBridge Scheduler starts.

Both keep the state on EFS. SQLite there is safe for one host at a time, which is what a lock, and the lease in the
ledger, see to; it is slower than a disk.
"""

import math
from typing import Any

from pipeline.deploying.calendars import event_bridge
from pipeline.deploying.lambda_handler import FILE_VARIABLE
from pipeline.deploying.plan import (
    AGENTCORE_ACTIONS,
    RUNS_AT_ONCE,
    STOP_S,
    Deployment,
    GeneratedFile,
    Source,
    comment,
    yaml_text,
)
from pipeline.errors import ConfigurationError

Json = dict[str, Any]

CONFIGURATION = "/etc/memsync"
ECS_STATE = "/var/lib/memsync"
LAMBDA_STATE = "/mnt/memsync"  # a function can mount a file system below /mnt only
DOCUMENTS = "/documents"
HEALTH_PORT = 8080
USER_ID = "10001"  # of the Containerfile
LOG_DAYS = 30
LAMBDA_TIMEOUT_S = 900  # the most that there is
LAMBDA_HANDLER = "pipeline.deploying.lambda_handler.handle"
CATCH_UP_S, LATE_S = 3600, 120
# Fargate's sizes: for 1024 units of a processor, 2 to 8 GiB in steps of one.
FARGATE_CPU, FARGATE_MIB_MIN, FARGATE_MIB_MAX = "1024", 2048, 8192
LAMBDA_MIB_MAX = 10_240


def ecs_files(deployment: Deployment) -> list[GeneratedFile]:
    """The template, and the files of which the image is made.

    Raises:
        ConfigurationError: EventBridge has no words for a schedule.
    """
    _refuse_folders(deployment)
    runs_at_once = RUNS_AT_ONCE if deployment.is_service else 1
    memory_mib = _fargate_mib(deployment.memory_mib * runs_at_once)
    resources = _shared()
    resources["Cluster"] = {"Type": "AWS::ECS::Cluster"}
    resources["ExecutionRole"] = _execution_role(deployment)
    resources["TaskRole"] = _role("ecs-tasks.amazonaws.com", [_memory_policy(deployment)])
    if deployment.is_service:
        arguments = ["schedule", CONFIGURATION, "--health-port", str(HEALTH_PORT)]
        resources["Task"] = _task(deployment, "memsync", arguments, memory_mib, has_health=True)
        resources["Service"] = _ecs_service()
    else:
        resources["SchedulerRole"] = _role("scheduler.amazonaws.com", [_may_run_tasks(deployment)])
        for number, source in enumerate(deployment.sources):
            arguments = ["run", f"{CONFIGURATION}/{source.slug}.yaml"]
            resources[f"Task{number}"] = _task(deployment, source.slug, arguments, memory_mib)
            resources |= _schedules(source, number, _ecs_target(number))
    template = _template("memsync on ECS", deployment, resources)
    return [_template_file(deployment, template), *_image_files(deployment, ECS_STATE)]


def lambda_files(deployment: Deployment) -> list[GeneratedFile]:
    """The template, and the files of which the image is made.

    Raises:
        ConfigurationError: a function cannot do what is asked for, or EventBridge has no words for a schedule.
    """
    _refuse_folders(deployment)
    if deployment.is_service:
        raise ConfigurationError(
            "A function of Lambda cannot stay up: --service is for systemd, kubernetes and ecs. Nothing was written."
        )
    resources = _shared()
    network = {
        "PolicyName": "network",
        "PolicyDocument": _allow(
            [
                "ec2:CreateNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSubnets",
                "ec2:DeleteNetworkInterface",
                "ec2:AssignPrivateIpAddresses",
                "ec2:UnassignPrivateIpAddresses",
            ],
            "*",
        ),
    }
    logs = {
        "PolicyName": "logs",
        "PolicyDocument": _allow(["logs:CreateLogStream", "logs:PutLogEvents"], _attribute("Log", "Arn")),
    }
    state = {
        "PolicyName": "state",
        "PolicyDocument": _allow(
            ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], _attribute("State", "Arn")
        ),
    }
    policies = [_memory_policy(deployment), network, logs, state]
    resources["FunctionRole"] = _role("lambda.amazonaws.com", policies)
    functions = [_attribute(f"Function{number}", "Arn") for number in range(len(deployment.sources))]
    may_invoke = {"PolicyName": "invoke", "PolicyDocument": _allow(["lambda:InvokeFunction"], functions)}
    resources["SchedulerRole"] = _role("scheduler.amazonaws.com", [may_invoke])
    for number, source in enumerate(deployment.sources):
        resources[f"Function{number}"] = _function(deployment, source)
        resources[f"Invocation{number}"] = _invocation(source, number)
        target = {"Arn": _attribute(f"Function{number}", "Arn"), "Input": "{}"}
        resources |= _schedules(source, number, target)
    template = _template("memsync on Lambda", deployment, resources)
    return [
        _template_file(deployment, template, is_function=True),
        *_image_files(deployment, LAMBDA_STATE, is_function=True),
    ]


def _refuse_folders(deployment: Deployment) -> None:
    for source in deployment.sources:
        if source.documents is not None:
            raise ConfigurationError(
                f"`source.path` is a folder of this machine, {source.documents}, which AWS does not see. Nothing was"
                " written. Put the documents where both do (`type: s3` or `git`, say), or run memsync here:"
                " `memsync deploy systemd`.",
                path=str(source.settings.file),
            )


# ---------------------------------------------------------------------------------------- what both consist of


def _template(description: str, deployment: Deployment, resources: Json) -> Json:
    parameters: Json = {
        "Image": {"Type": "String", "Default": deployment.image, "Description": "The image, with its registry"},
        "Vpc": {"Type": "AWS::EC2::VPC::Id"},
        "SubnetA": {
            "Type": "AWS::EC2::Subnet::Id",
            "Description": "A private subnet with a way to AWS (NAT or endpoints)",
        },
        "SubnetB": {"Type": "AWS::EC2::Subnet::Id", "Description": "Another one, in another zone"},
    }
    for number, variable in enumerate(deployment.variables):
        parameters[f"Secret{number}"] = {
            "Type": "String",
            "Description": f"ARN of the secret (Secrets Manager) that holds {variable}",
        }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{description}, version {deployment.version}",
        "Parameters": parameters,
        "Resources": resources,
    }


def _template_file(deployment: Deployment, template: Json, *, is_function: bool = False) -> GeneratedFile:
    secrets = " ".join(f"Secret{number}=ARN" for number in range(len(deployment.variables)))
    lines = [
        "Written with --out FOLDER, the files of the image are beside this one. From that folder:",
        f"  docker build -f Containerfile -t REGISTRY/{deployment.image} . && docker push REGISTRY/{deployment.image}",
        "  aws cloudformation deploy --stack-name memsync --template-file template.yaml \\",
        f"    --capabilities CAPABILITY_IAM --parameter-overrides Image=REGISTRY/{deployment.image} \\",
        f"    Vpc=ID SubnetA=ID SubnetB=ID {secrets}".rstrip(),
    ]
    if any(source.settings.schedule_zone is None for source in deployment.sources) and not deployment.is_service:
        lines += ["", "Without `schedule_zone` the times are those of UTC."]
    if is_function and deployment.variables:
        lines += [
            "",
            "The secrets are put into the functions' environment when this is deployed: deploy again when one",
        ]
        lines += ["has changed. Whoever may read the functions' configuration may read them."]
    return GeneratedFile("template.yaml", comment(*lines) + yaml_text(template))


def _image_files(deployment: Deployment, state: str, *, is_function: bool = False) -> list[GeneratedFile]:
    """memsync's own image, with these sources in it."""
    containerfile = (
        comment(f"memsync's own image, made by its Containerfile as {deployment.image}, with these sources in it.")
        + f"ARG BASE={deployment.image}\nFROM ${{BASE}}\n"
        + "COPY --chmod=644 sources/ /etc/memsync/\n"
    )
    if is_function:
        containerfile += (
            "USER root\n"
            "RUN python -m pip install --no-cache-dir awslambdaric\n"
            f"USER {USER_ID}\n"
            'ENTRYPOINT ["python", "-m", "awslambdaric"]\n'
            f'CMD ["{LAMBDA_HANDLER}"]\n'
        )
    sources = [
        GeneratedFile(
            f"sources/{source.slug}.yaml",
            source.moved_yaml(state=state, documents=f"{DOCUMENTS}/{source.slug}"),
        )
        for source in deployment.sources
    ]
    return [GeneratedFile("Containerfile", containerfile), *sources]


def _shared() -> Json:
    """Network, log, and a file system for the state."""
    nfs = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049}
    resources: Json = {
        "Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": LOG_DAYS}},
        "MemsyncGroup": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {"GroupDescription": "memsync: calls out, is not called", "VpcId": _ref("Vpc")},
        },
        "StateGroup": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "the state of memsync",
                "VpcId": _ref("Vpc"),
                "SecurityGroupIngress": [
                    {**nfs, "SourceSecurityGroupId": _attribute("MemsyncGroup", "GroupId"), "Description": "memsync"}
                ],
            },
        },
        # It holds the ledger: without it, `memsync recover` has to rebuild that from the memory.
        "State": {
            "Type": "AWS::EFS::FileSystem",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"Encrypted": True, "BackupPolicy": {"Status": "ENABLED"}},
        },
        "StateAccess": {
            "Type": "AWS::EFS::AccessPoint",
            "Properties": {
                "FileSystemId": _ref("State"),
                "PosixUser": {"Uid": USER_ID, "Gid": USER_ID},
                "RootDirectory": {
                    "Path": "/memsync",
                    "CreationInfo": {"OwnerUid": USER_ID, "OwnerGid": USER_ID, "Permissions": "0700"},
                },
            },
        },
    }
    for zone in "AB":
        resources[f"StateMount{zone}"] = {
            "Type": "AWS::EFS::MountTarget",
            "Properties": {
                "FileSystemId": _ref("State"),
                "SubnetId": _ref(f"Subnet{zone}"),
                "SecurityGroups": [_attribute("StateGroup", "GroupId")],
            },
        }
    return resources


def _schedules(source: Source, number: int, target: Json) -> Json:
    settings = source.settings
    expressions = source.said(lambda: event_bridge(source.schedule), "EventBridge")
    minutes = math.ceil(settings.schedule_jitter_s / 60)
    window: Json = {"Mode": "OFF"}
    if minutes:
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": min(minutes, 1440)}
    properties: Json = {
        "Description": f"memsync: when {source.name} is due",
        "FlexibleTimeWindow": window,
        "ScheduleExpressionTimezone": settings.schedule_zone or "UTC",
        "Target": {
            **target,
            "RoleArn": _attribute("SchedulerRole", "Arn"),
            # Of what could not be started; a run that fails is not started again, the next one is.
            "RetryPolicy": {"MaximumEventAgeInSeconds": _deadline_s(source), "MaximumRetryAttempts": 5},
        },
    }
    return {
        f"Schedule{number}{chr(ord('A') + letter)}": {
            "Type": "AWS::Scheduler::Schedule",
            "Properties": {**properties, "ScheduleExpression": expression},
        }
        for letter, expression in enumerate(expressions)
    }


def _deadline_s(source: Source) -> int:
    return CATCH_UP_S if source.settings.schedule_catch_up else LATE_S


def _memory_policy(deployment: Deployment) -> Json:
    """What a run may do: call the memories of these sources, and ask for their quota."""
    memories = list(dict.fromkeys(_memory_arn(source.settings.destination.memory_id) for source in deployment.sources))
    statements = [
        {
            "Effect": "Allow",
            "Action": list(AGENTCORE_ACTIONS),
            "Resource": [_sub(memory) if "${" in memory else memory for memory in memories],
        },
        {"Effect": "Allow", "Action": ["servicequotas:ListServiceQuotas"], "Resource": "*"},
    ]
    return {"PolicyName": "memory", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}


def _memory_arn(memory_id: str) -> str:
    if memory_id.startswith("arn:"):
        return memory_id
    return "arn:${AWS::Partition}:bedrock-agentcore:*:${AWS::AccountId}:memory/" + memory_id


# ------------------------------------------------------------------------------------------------------ ECS


def _task(
    deployment: Deployment, stream: str, arguments: list[str], memory_mib: int, *, has_health: bool = False
) -> Json:
    container: Json = {
        "Name": "memsync",
        "Image": _ref("Image"),
        "Essential": True,
        "Command": arguments,
        "ReadonlyRootFilesystem": True,
        "StopTimeout": STOP_S,
        "LinuxParameters": {"InitProcessEnabled": True},
        "MountPoints": [
            {"SourceVolume": "state", "ContainerPath": ECS_STATE},
            {"SourceVolume": "temporary", "ContainerPath": "/tmp"},  # noqa: S108 - in the container
        ],
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": _ref("Log"),
                "awslogs-region": _ref("AWS::Region"),
                "awslogs-stream-prefix": stream,
            },
        },
    }
    if deployment.variables:
        container["Secrets"] = [
            {"Name": variable, "ValueFrom": _ref(f"Secret{number}")}
            for number, variable in enumerate(deployment.variables)
        ]
    if has_health:
        container["HealthCheck"] = {
            "Command": ["CMD", "python", "-c", health_check(HEALTH_PORT)],
            "Interval": 30,
            "StartPeriod": 60,
        }
    state = {
        "FilesystemId": _ref("State"),
        "TransitEncryption": "ENABLED",
        "AuthorizationConfig": {"AccessPointId": _ref("StateAccess")},
    }
    return {
        "Type": "AWS::ECS::TaskDefinition",
        "DependsOn": ["StateMountA", "StateMountB"],
        "Properties": {
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": FARGATE_CPU,
            "Memory": str(memory_mib),
            "ExecutionRoleArn": _attribute("ExecutionRole", "Arn"),
            "TaskRoleArn": _attribute("TaskRole", "Arn"),
            "Volumes": [{"Name": "state", "EFSVolumeConfiguration": state}, {"Name": "temporary"}],
            "ContainerDefinitions": [container],
        },
    }


def health_check(port: int) -> str:
    """A line of Python that fails unless a scheduler on this machine is alive."""
    return f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/healthz', timeout=4)"


def _ecs_target(number: int) -> Json:
    network = {
        "AssignPublicIp": "DISABLED",
        "SecurityGroups": [_attribute("MemsyncGroup", "GroupId")],
        "Subnets": [_ref("SubnetA"), _ref("SubnetB")],
    }
    return {
        "Arn": _attribute("Cluster", "Arn"),
        "EcsParameters": {
            "TaskDefinitionArn": _ref(f"Task{number}"),
            "LaunchType": "FARGATE",
            "NetworkConfiguration": {"AwsvpcConfiguration": network},
        },
    }


def _ecs_service() -> Json:
    return {
        "Type": "AWS::ECS::Service",
        "Properties": {
            "Cluster": _ref("Cluster"),
            "LaunchType": "FARGATE",
            "TaskDefinition": _ref("Task"),
            "DesiredCount": 1,
            # The old one ends before the new one begins: there is one state.
            "DeploymentConfiguration": {"MinimumHealthyPercent": 0, "MaximumPercent": 100},
            "NetworkConfiguration": {
                "AwsvpcConfiguration": {
                    "AssignPublicIp": "DISABLED",
                    "SecurityGroups": [_attribute("MemsyncGroup", "GroupId")],
                    "Subnets": [_ref("SubnetA"), _ref("SubnetB")],
                }
            },
        },
    }


def _execution_role(deployment: Deployment) -> Json:
    role = _role("ecs-tasks.amazonaws.com", _may_read_secrets(deployment))
    managed = "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    role["Properties"]["ManagedPolicyArns"] = [_sub(managed)]
    return role


def _may_read_secrets(deployment: Deployment) -> list[Json]:
    secrets = [_ref(f"Secret{number}") for number in range(len(deployment.variables))]
    if not secrets:
        return []
    return [{"PolicyName": "secrets", "PolicyDocument": _allow(["secretsmanager:GetSecretValue"], secrets)}]


def _may_run_tasks(deployment: Deployment) -> Json:
    tasks = [_ref(f"Task{number}") for number in range(len(deployment.sources))]
    document = _allow(["ecs:RunTask"], tasks)
    roles = [_attribute("ExecutionRole", "Arn"), _attribute("TaskRole", "Arn")]
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


# --------------------------------------------------------------------------------------------------- Lambda


def _function(deployment: Deployment, source: Source) -> Json:
    variables: Json = {
        FILE_VARIABLE: f"{CONFIGURATION}/{source.slug}.yaml",
        "MEMSYNC_STATE__PATH": LAMBDA_STATE,  # the image says where containers have it
    }
    for number, variable in enumerate(deployment.variables):
        if variable in source.variables:
            variables[variable] = _sub(f"{{{{resolve:secretsmanager:${{Secret{number}}}}}}}")
    return {
        "Type": "AWS::Lambda::Function",
        "DependsOn": ["StateMountA", "StateMountB"],
        "Properties": {
            "Description": f"memsync run of {source.name}",
            "PackageType": "Image",
            "Code": {"ImageUri": _ref("Image")},
            "Role": _attribute("FunctionRole", "Arn"),
            "MemorySize": min(max(deployment.memory_mib, 128), LAMBDA_MIB_MAX),
            "Timeout": LAMBDA_TIMEOUT_S,
            "ReservedConcurrentExecutions": 1,
            "EphemeralStorage": {"Size": 2048},
            "Environment": {"Variables": variables},
            "LoggingConfig": {"LogGroup": _ref("Log")},
            "FileSystemConfigs": [{"Arn": _attribute("StateAccess", "Arn"), "LocalMountPath": LAMBDA_STATE}],
            "VpcConfig": {
                "SecurityGroupIds": [_attribute("MemsyncGroup", "GroupId")],
                "SubnetIds": [_ref("SubnetA"), _ref("SubnetB")],
            },
        },
    }


def _invocation(source: Source, number: int) -> Json:
    """What waits since a run is under way must not pile up: it would be hours of runs with nothing to do."""
    return {
        "Type": "AWS::Lambda::EventInvokeConfig",
        "Properties": {
            "FunctionName": _ref(f"Function{number}"),
            "Qualifier": "$LATEST",
            "MaximumEventAgeInSeconds": _deadline_s(source),
            "MaximumRetryAttempts": 1,
        },
    }


# ------------------------------------------------------------------------------------------------- phrases


def _ref(name: str) -> Json:
    return {"Ref": name}


def _attribute(name: str, attribute: str) -> Json:
    return {"Fn::GetAtt": [name, attribute]}


def _sub(text: str) -> Json:
    return {"Fn::Sub": text}


def _allow(actions: list[str], resource: Any) -> Json:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
    }


def _role(service: str, policies: list[Json]) -> Json:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": trust, "Policies": policies},
    }
