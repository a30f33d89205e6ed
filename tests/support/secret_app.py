"""Agents and a workflow that say a marked text wherever text can be said."""

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, ApplicationError

from perdure import Agent, App, ToolContext, tool
from perdure.contracts.messages import ImagePart, Message, ToolResultPart
from perdure.errors import ModelCallError
from perdure.providers.base import BlobReader, Fragment
from perdure.settings import EncryptionTable, Settings
from perdure.testing import ScriptedModel, calls

LARGE = 60_000
"""More than the threshold of external storage."""


@tool(idempotent=True)
def tell(text: str) -> str:
    """Say it again, at length."""
    return f"{text} " * (LARGE // len(text))


@tool(idempotent=True, local=True)
def whisper(text: str) -> str:
    """Say it again."""
    return text


@tool(idempotent=True)
def draw(text: str, ctx: ToolContext) -> list[ImagePart]:
    """Put it into a picture."""
    return [ImagePart(media_type="image/png", blob=ctx.put_blob(text.encode()))]


@tool(idempotent=True)
def fail(text: str) -> str:
    """Fail, saying why."""
    raise ValueError(text)


def say(_: Any, messages: list[Message]) -> Any:
    """Talk of what the user said."""
    asked = [each for each in messages if each.role == "user"]
    text = asked[-1].text
    if "refuse" in text:
        return ModelCallError(f"no, not {text}", kind="fatal", status_code=400)
    if len(messages) > 1 and messages[-1].role != "user":
        return f"I heard {text}"
    if "short" in text:
        return f"short: {text}"
    given = {"text": text}
    return calls(("tell", given), ("whisper", given), ("draw", given), ("fail", given))


class Onlooker(ScriptedModel):
    """Looks at the pictures that it is shown, as a vendor's model does."""

    seen: bytes = b""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        for result in message.parts:
            for part in result.content if isinstance(result, ToolResultPart) else ():
                if isinstance(part, ImagePart) and part.blob is not None:
                    self.seen += read_blob(part.blob)
        return super().encode(message, read_blob)


@activity.defn
async def break_down(text: str) -> None:
    raise ApplicationError(f"broken by {text}", text, non_retryable=True)


@workflow.defn
class Breaking:
    """Fails, after an activity did."""

    @workflow.run
    async def run(self, text: str) -> None:
        workflow.set_current_details(text)
        try:
            await workflow.execute_activity(
                break_down,
                text,
                task_queue=f"{workflow.info().task_queue}-own",
                start_to_close_timeout=timedelta(seconds=5),
                summary=text,
            )
        except ActivityError as error:
            raise ApplicationError(f"failed for {text}", text) from error


onlooker = Onlooker(say)
teller = Agent("teller", model="scripted:x", instructions="Talk.", tools=[tell, whisper, draw, fail])
app = App(agents=[teller], workflows=[Breaking], providers=[onlooker])


def settings(folder: Any, key_id: str, *old: str) -> Settings:
    """Return settings with keys in the variables KEY_ID."""
    table = EncryptionTable(
        key_env=variable(key_id), key_id=key_id, old_keys={each: variable(each) for each in old}
    )
    return Settings.model_validate(
        {"encryption": table, "storage": {"driver": "local"}, "state_dir": folder, "project_dir": folder}
    )


def variable(key_id: str) -> str:
    return f"TEST_KEY_{key_id.upper()}"
