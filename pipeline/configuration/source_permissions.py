"""What a run needs of AWS to read a source, beyond its memory: its bucket, and the secrets that it refers to."""

from collections.abc import Iterator
from typing import Any

from pipeline.configuration.known_settings import known_settings, references_of
from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError

Statement = dict[str, Any]


def source_statements(settings: SourceSettings, partition: str, region: str, account: str) -> Iterator[Statement]:
    """The statements of an IAM policy; none if the source needs nothing of AWS, or asks without credentials.

    Raises:
        ConfigurationError: it is not known here which bucket is meant.
    """
    yield from _of_secrets(settings, f"arn:{partition}", f"{region}:{account}")
    if settings.source.type == "s3":
        yield from _of_bucket(settings, partition)


def _of_secrets(settings: SourceSettings, start: str, place: str) -> Iterator[Statement]:
    references = {reference for _, reference in references_of(settings.source)}
    secrets = {reference.name.partition("#")[0] for reference in references if reference.scheme == "aws-sm"}
    parameters = {reference.name for reference in references if reference.scheme == "ssm"}
    if secrets:
        # Secrets Manager ends each ARN with six characters of its own.
        names = [
            name if name.startswith("arn:") else f"{start}:secretsmanager:{place}:secret:{name}-??????"
            for name in sorted(secrets)
        ]
        yield {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": names}
    if parameters:
        names = [
            # Behind a colon stands a version, which is no part of the ARN.
            name if name.startswith("arn:") else f"{start}:ssm:{place}:parameter/{name.partition(':')[0].lstrip('/')}"
            for name in sorted(parameters)
        ]
        yield {"Effect": "Allow", "Action": ["ssm:GetParameter"], "Resource": names}


def _of_bucket(settings: SourceSettings, partition: str) -> Iterator[Statement]:
    source = known_settings(settings)
    if source is None:
        raise ConfigurationError(
            "which bucket the source reads depends on references whose values are not known here. Set what they name,"
            " and ask again",
            path=str(settings.file),
        )
    if source.endpoint_url is not None or source.anonymous:
        return
    bucket = f"arn:{partition}:s3:::{source.bucket}"
    listing: Statement = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket]}
    if all(source.prefixes):
        # IfExists: the bucket itself is asked for, too, without a prefix, to tell what is missing, it or an object.
        listing["Condition"] = {"StringLikeIfExists": {"s3:prefix": [f"{prefix}*" for prefix in source.prefixes]}}
    yield listing
    objects = [f"{bucket}/{prefix}*" for prefix in source.prefixes]
    yield {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": objects}
