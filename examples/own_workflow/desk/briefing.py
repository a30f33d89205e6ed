"""The workflow: a briefing from several agents at once, and an editor who may ask for more, or say nothing.

Temporal's sandbox imports this module for each run, so it imports nothing heavy: agents and tools are in `app.py`,
and are called by their names.
"""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow

from perdure.errors import PerdureError
from perdure.workflows import call_tool, gather, run_agent


class Order(BaseModel):
    """What the workflow is started with."""

    title: str
    questions: list[str]
    patience_seconds: float = 24 * 3600
    """How long the editor is waited for before a reminder."""
    reminders: int = 1
    """After so many, and the same time once more, the briefing is put away."""


class Briefing(BaseModel):
    """What it ends with."""

    is_published: bool
    text: str


@workflow.defn(name="Briefing")
class BriefingWorkflow:
    """Asks an agent each question at once, then lets an editor ask on, until it is published or put away."""

    def __init__(self) -> None:
        self._sections: list[str] = []
        self._questions: list[str] = []
        self._is_approved = False

    @workflow.run
    async def run(self, order: Order) -> Briefing:
        """Work until it is published, or nobody wants it."""
        await self._answer(order.questions)
        silences = 0
        while not self._is_approved and silences <= order.reminders:
            if await self._hears_within(timedelta(seconds=order.patience_seconds)):
                asked, self._questions = self._questions, []
                await self._answer(asked)
                silences = 0
            else:
                silences += 1
                if silences <= order.reminders:
                    await call_tool("remind", {"title": order.title, "times": silences})
        if self._is_approved:
            await call_tool("publish", {"title": order.title, "text": self.draft()})
        return Briefing(is_published=self._is_approved, text=self.draft())

    async def _answer(self, questions: list[str]) -> None:
        """Ask an agent each of them, at most five at once; one that fails leaves the others as they are."""
        answers = await gather(
            *(run_agent("reader", question) for question in questions), on_error="collect", max_parallel=5
        )
        for question, answer in zip(questions, answers, strict=True):
            text = f"(no answer: {answer.message})" if isinstance(answer, PerdureError) else answer
            self._sections.append(f"## {question}\n\n{text}")

    async def _hears_within(self, patience: timedelta) -> bool:
        """Wait for a signal: a timer of Temporal's, which holds no worker."""
        try:
            await workflow.wait_condition(lambda: self._is_approved or bool(self._questions), timeout=patience)
        except TimeoutError:
            return False
        return True

    @workflow.signal
    def ask(self, question: str) -> None:
        """Add a question."""
        self._questions.append(question)

    @workflow.signal
    def approve(self) -> None:
        """Publish the draft as it is."""
        self._is_approved = True

    @workflow.query
    def draft(self) -> str:
        """Return the text so far."""
        return "\n\n".join(self._sections)
