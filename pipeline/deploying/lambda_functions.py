"""Functions on Lambda, that EventBridge Scheduler starts."""

from pipeline.deploying.cloudformation import (
    Json,
    allow,
    attribute,
    deadline_s,
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
from pipeline.deploying.image import CONFIGURATION
from pipeline.deploying.lambda_handler import FILE_VARIABLE
from pipeline.deploying.plan import Deployment, GeneratedFile, Source
from pipeline.errors import ConfigurationError

STATE = "/mnt/memsync"  # a function can mount a file system below /mnt only
TIMEOUT_S = 900  # the most that there is
MIB_MAX = 10_240


def lambda_files(deployment: Deployment) -> list[GeneratedFile]:
    """The template, and the files of which the image is made.

    Raises:
        ConfigurationError: a function cannot do what is asked for, or EventBridge has no words for a schedule.
    """
    refuse_folders(deployment)
    if deployment.is_service:
        raise ConfigurationError(
            "A function of Lambda cannot stay up: --service is for systemd, kubernetes and ecs. Nothing was written."
        )
    resources = shared_resources()
    network = {
        "PolicyName": "network",
        "PolicyDocument": allow(
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
        "PolicyDocument": allow(["logs:CreateLogStream", "logs:PutLogEvents"], attribute("Log", "Arn")),
    }
    state = {
        "PolicyName": "state",
        "PolicyDocument": allow(
            ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], attribute("State", "Arn")
        ),
    }
    policies = [memory_policy(deployment), network, logs, state]
    resources["FunctionRole"] = role("lambda.amazonaws.com", policies)
    functions = [attribute(f"Function{number}", "Arn") for number in range(len(deployment.sources))]
    may_invoke = {"PolicyName": "invoke", "PolicyDocument": allow(["lambda:InvokeFunction"], functions)}
    resources["SchedulerRole"] = role("scheduler.amazonaws.com", [may_invoke])
    for number, source in enumerate(deployment.sources):
        resources[f"Function{number}"] = _function(deployment, source)
        resources[f"Invocation{number}"] = _invocation(source, number)
        target = {"Arn": attribute(f"Function{number}", "Arn"), "Input": "{}"}
        resources |= schedules(source, number, target)
    template = template_of("memsync on Lambda", deployment, resources)
    return [
        template_file(deployment, template, is_function=True),
        *image_files(deployment, STATE, is_function=True),
    ]


def _function(deployment: Deployment, source: Source) -> Json:
    variables: Json = {
        FILE_VARIABLE: f"{CONFIGURATION}/{source.slug}.yaml",
        "MEMSYNC_STATE__PATH": STATE,  # the image says where containers have it
    }
    for number, variable in enumerate(deployment.variables):
        if variable in source.variables:
            variables[variable] = substituted(f"{{{{resolve:secretsmanager:${{Secret{number}}}}}}}")
    return {
        "Type": "AWS::Lambda::Function",
        "DependsOn": ["StateMountA", "StateMountB"],
        "Properties": {
            "Description": f"memsync run of {source.name}",
            "PackageType": "Image",
            "Code": {"ImageUri": ref("Image")},
            "Role": attribute("FunctionRole", "Arn"),
            "MemorySize": min(max(deployment.memory_mib, 128), MIB_MAX),
            "Timeout": TIMEOUT_S,
            "ReservedConcurrentExecutions": 1,
            "EphemeralStorage": {"Size": 2048},
            "Environment": {"Variables": variables},
            "LoggingConfig": {"LogGroup": ref("Log")},
            "FileSystemConfigs": [{"Arn": attribute("StateAccess", "Arn"), "LocalMountPath": STATE}],
            "VpcConfig": {
                "SecurityGroupIds": [attribute("MemsyncGroup", "GroupId")],
                "SubnetIds": [ref("SubnetA"), ref("SubnetB")],
            },
        },
    }


def _invocation(source: Source, number: int) -> Json:
    """What waits since a run is under way must not pile up: it would be hours of runs with nothing to do."""
    return {
        "Type": "AWS::Lambda::EventInvokeConfig",
        "Properties": {
            "FunctionName": ref(f"Function{number}"),
            "Qualifier": "$LATEST",
            "MaximumEventAgeInSeconds": deadline_s(source),
            "MaximumRetryAttempts": 1,
        },
    }
