"""The shop's workflow: since it has perdure, it asks an agent before it pays."""

from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from shop.money import Amount

from perdure.workflows import run_agent


@activity.defn
async def pay(amount: Amount) -> Amount:
    """Pay, here only in words."""
    activity.logger.info("Paid %s %s", amount.value, amount.currency)
    return amount


@workflow.defn
class Refund:
    """Pays money back, and says why it may."""

    @workflow.run
    async def run(self, amount: Amount, question: str) -> str:
        """Ask the clerk, then pay."""
        reason = await run_agent("clerk", question)
        paid = await workflow.execute_activity(pay, amount, start_to_close_timeout=timedelta(seconds=10))
        return f"{paid.value} {paid.currency}: {reason}"
