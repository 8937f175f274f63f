"""What templates of CloudFormation for AWS have in common, whoever runs memsync there.

The state is on EFS. SQLite there is safe for one host at a time, which is what a lock, and the lease in the ledger, see
to; it is slower than a disk.
"""

import math
from typing import Any

from pipeline.configuration.source_permissions import source_statements
from pipeline.deploying.calendars import event_bridge
from pipeline.deploying.image import CONFIGURATION, DOCUMENTS, USER_ID
from pipeline.deploying.plan import (
    AGENTCORE_ACTIONS,
    CATCH_UP_S,
    LATE_S,
    Deployment,
    GeneratedFile,
    Source,
    comment,
    yaml_text,
)
from pipeline.errors import ConfigurationError

Json = dict[str, Any]

LOG_DAYS = 30
HANDLER = "pipeline.deploying.lambda_handler.handle"


def refuse_folders(deployment: Deployment) -> None:
    for source in deployment.sources:
        if source.documents is not None:
            raise ConfigurationError(
                f"`source.path` is a folder of this machine, {source.documents}, which AWS does not see. Nothing was"
                " written. Put the documents where both do (`type: s3` or `git`, say), or run memsync here:"
                " `memsync deploy systemd`.",
                path=str(source.settings.file),
            )


def template_of(description: str, deployment: Deployment, resources: Json) -> Json:
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


def template_file(deployment: Deployment, template: Json, *, is_function: bool = False) -> GeneratedFile:
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


def image_files(deployment: Deployment, state: str, *, is_function: bool = False) -> list[GeneratedFile]:
    """memsync's own image, with these sources in it."""
    containerfile = (
        comment(f"memsync's own image, made by its Containerfile as {deployment.image}, with these sources in it.")
        + f"ARG BASE={deployment.image}\nFROM ${{BASE}}\n"
        + f"COPY --chmod=644 sources/ {CONFIGURATION}/\n"
    )
    if is_function:
        containerfile += (
            "USER root\n"
            "RUN python -m pip install --no-cache-dir awslambdaric\n"
            f"USER {USER_ID}\n"
            'ENTRYPOINT ["python", "-m", "awslambdaric"]\n'
            f'CMD ["{HANDLER}"]\n'
        )
    sources = [
        GeneratedFile(
            f"sources/{source.slug}.yaml",
            source.moved_yaml(state=state, documents=f"{DOCUMENTS}/{source.slug}"),
        )
        for source in deployment.sources
    ]
    return [GeneratedFile("Containerfile", containerfile), *sources]


def shared_resources() -> Json:
    """Network, log, and a file system for the state."""
    nfs = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049}
    resources: Json = {
        "Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": LOG_DAYS}},
        "MemsyncGroup": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {"GroupDescription": "memsync: calls out, is not called", "VpcId": ref("Vpc")},
        },
        "StateGroup": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "the state of memsync",
                "VpcId": ref("Vpc"),
                "SecurityGroupIngress": [
                    {**nfs, "SourceSecurityGroupId": attribute("MemsyncGroup", "GroupId"), "Description": "memsync"}
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
                "FileSystemId": ref("State"),
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
                "FileSystemId": ref("State"),
                "SubnetId": ref(f"Subnet{zone}"),
                "SecurityGroups": [attribute("StateGroup", "GroupId")],
            },
        }
    return resources


def schedules(source: Source, number: int, target: Json) -> Json:
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
            "RoleArn": attribute("SchedulerRole", "Arn"),
            # Of what could not be started; a run that fails is not started again, the next one is.
            "RetryPolicy": {"MaximumEventAgeInSeconds": deadline_s(source), "MaximumRetryAttempts": 5},
        },
    }
    return {
        f"Schedule{number}{chr(ord('A') + letter)}": {
            "Type": "AWS::Scheduler::Schedule",
            "Properties": {**properties, "ScheduleExpression": expression},
        }
        for letter, expression in enumerate(expressions)
    }


def deadline_s(source: Source) -> int:
    return CATCH_UP_S if source.settings.schedule_catch_up else LATE_S


def memory_policy(deployment: Deployment) -> Json:
    """What a run may do: call the memories of these sources, ask for their quota, and read the sources."""
    memories = list(dict.fromkeys(_memory_arn(source.settings.destination.memory_id) for source in deployment.sources))
    statements = [
        {
            "Effect": "Allow",
            "Action": list(AGENTCORE_ACTIONS),
            "Resource": [_filled_in(memory) for memory in memories],
        },
        {"Effect": "Allow", "Action": ["servicequotas:ListServiceQuotas"], "Resource": "*"},
    ]
    for source in deployment.sources:
        for statement in source_statements(source.settings, "${AWS::Partition}", "*", "${AWS::AccountId}"):
            named = {**statement, "Resource": [_filled_in(arn) for arn in statement["Resource"]]}
            if named not in statements:
                statements.append(named)
    return {"PolicyName": "memory", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}


def _filled_in(arn: str) -> Json | str:
    return substituted(arn) if "${" in arn else arn


def _memory_arn(memory_id: str) -> str:
    if memory_id.startswith("arn:"):
        return memory_id
    return "arn:${AWS::Partition}:bedrock-agentcore:*:${AWS::AccountId}:memory/" + memory_id


# ------------------------------------------------------------------------------------------------- phrases


def ref(name: str) -> Json:
    return {"Ref": name}


def attribute(name: str, attribute: str) -> Json:
    return {"Fn::GetAtt": [name, attribute]}


def substituted(text: str) -> Json:
    return {"Fn::Sub": text}


def allow(actions: list[str], resource: Any) -> Json:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
    }


def role(service: str, policies: list[Json]) -> Json:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": trust, "Policies": policies},
    }
