# SPDX-License-Identifier: Apache-2.0
"""The two steps of a data job. Plan: split it by the owner of each managed object, durably and repeatably.
Finish: count the outcomes (of a preview: compute them), write the manifest, then set the final status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import zstandard
from msgspec.structs import replace

from ran_datajobs.checkpoints import Checkpoint, reached
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.previews import Previews, built_in_model, refused_effects
from ran_datajobs.errors import PolicyUnavailable
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.model import (
    UNMATCHED_PART,
    JobType,
    OperationCounts,
    OperationState,
    Response,
    Validation,
)
from ran_datajobs.planning import policy
from ran_datajobs.planning.model_validation import ModelsByTag, ModelSource
from ran_datajobs.planning.policy import Batch, Verdicts
from ran_datajobs.planning.previews import split_preview
from ran_datajobs.planning.split import (
    Plan,
    RejectedOperation,
    split,
    split_and_ask,
    split_permitted,
    tags_of,
)
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.results.outcomes import count, verdict, why
from ran_datajobs.results.parts import ResultWriter, load_failures, manifest
from ran_datajobs.results.responses import make_responses
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import DispatchStore, LeasedJob, PlannedJob, Previewed
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.results import Part

MOST_TRIES: Final = 10
"""Number of tries to plan a job, with growing pauses of 20 to 30 s altogether, after which
``DATAJOBS_POLICY_UNREACHABLE`` decides about writes for which the policy executor cannot be asked. Earlier
failures of the plan for other causes count, too."""

_MAX_REQUEST: Final = 1 << 31


@dataclass(eq=False)
class JobSteps:
    """Plans and finishes jobs. Each step may be repeated: a plan gives the same sub-jobs and the same objects
    again, and finishing a job twice changes nothing."""

    store: DispatchStore
    index: OwnerIndex
    objects: ObjectStore
    settings: Settings
    runtime: Runtime
    news: DispatchNews
    policy: PolicyExecutor | None = None
    models: ModelSource = field(default_factory=ModelSource)

    def __post_init__(self) -> None:
        self.previews = Previews(self.store, self.index, self.objects, self.settings, self.runtime)

    async def plan(self, job: LeasedJob) -> None:
        """Plan the job, which ends its lease. Raises Fenced when the lease is void, and PolicyUnavailable
        when the policy executor cannot be asked now."""
        begun = self.runtime.now()
        owners = await self.index.catch_up()
        plan = await self._permitted(job, owners)
        is_preview = job.type is JobType.PREVIEW
        if is_preview:
            as_write, model = plan, built_in_model()
            plan = await self.runtime.in_thread(lambda: split_preview(_request(job), as_write, owners, model))
        await reached(Checkpoint.PLAN_SPLIT)
        writer = ResultWriter(self.objects, job.results_bucket, job.job_id, UNMATCHED_PART)
        responses = refusals(plan.refused)
        refused = await writer.write(
            refused_effects(responses) if is_preview else responses, lambda: self.store.job_is_leased(job)
        )
        await reached(Checkpoint.PLAN_WRITTEN)
        reasons = Counter(each.reason for each in plan.refused)
        not_started = sum(each.state is OperationState.NOT_STARTED for each in plan.refused)
        counted_at_the_end = is_preview or bool(plan.parts_of)
        failed = 0 if counted_at_the_end else len(plan.refused) - plan.unmatched - not_started
        planned = PlannedJob(
            plan.sub_jobs,
            plan.unmatched,
            failed,
            counted_at_the_end,
            refused,
            not_started,
            plan.warnings,
            plan.only_reads,
        )
        await self.store.record_plan(job, planned)
        await reached(Checkpoint.PLAN_STORED)
        self.news.planned(job, len(plan.sub_jobs), reasons, self.runtime.now() - begun)

    async def _permitted(self, job: LeasedJob, owners: Owners) -> Plan:
        """The plan of the operations that the class models and the policy executor allow, if there is one. It
        is asked before anything is stored or sent: after a crash it is asked again."""
        in_thread, stored = self.runtime.in_thread, job.verdicts
        models = await self._models(job, owners)
        whole_job = self.settings.policy_scope == "job"
        if stored is not None:
            return await in_thread(
                lambda: split_permitted(
                    _request(job), owners, policy.decoded(stored), models, whole_job=whole_job
                )
            )
        if self.policy is None or job.cancel_requested:  # nothing of a cancelled job is sent
            return await in_thread(lambda: split(_request(job), owners, models))
        plan, batches = await in_thread(lambda: split_and_ask(_request(job), owners, models))
        if not batches:
            return plan
        if self.settings.asks_policy_as_caller:
            verdicts = Verdicts()  # accepted when there was no policy executor: nobody was asked
        else:
            verdicts = await self._ask(self.policy, batches, job.step_failures + 1)
            if not verdicts.denied:
                return plan
        return await in_thread(
            lambda: split_permitted(_request(job), owners, verdicts, models, whole_job=whole_job)
        )

    async def _models(self, job: LeasedJob, owners: Owners) -> ModelsByTag | None:
        """The class models of a job that is validated."""
        if job.validation is Validation.OFF:
            return None
        tags = await self.runtime.in_thread(lambda: tags_of(_request(job), owners))
        return await self.models.of_tags(tags)

    async def _ask(self, executor: PolicyExecutor, batches: list[Batch], tries: int) -> Verdicts:
        allow = self.settings.policy_unreachable == "allow"
        verdicts = await executor.answer(policy.inquiry(batches, allow_unreachable=allow), wait=False)
        if verdicts.unreachable is not None and tries < MOST_TRIES:
            raise PolicyUnavailable(f"the policy executor cannot be asked: {verdicts.unreachable}")
        return verdicts

    async def finish(self, leased: LeasedJob) -> None:
        """Finish the job and end its lease. Raises Fenced when another worker has claimed it."""
        facts = await self.store.finish_facts(leased.job_id)
        if facts is None or facts[0].status.terminal:
            await self.store.step_over(leased)
            return
        job, parts = facts
        previewed: Previewed | None = None
        if job.type is JobType.PREVIEW:
            previewed = await self.previews.computed(leased, job, parts)
            counts, parts = previewed.counts, [*previewed.planned, *previewed.parts]
        else:
            counts = await self._counts_by_operation(job, parts) if job.split_reads else job.counts
        status = verdict(counts, cancelled=job.cancelled_sub_jobs > 0)
        await reached(Checkpoint.FINISH_COUNTED)
        await self.objects.put(
            job.results_bucket,
            manifest_key(str(job.job_id)),
            manifest(job, status, counts, parts, self.settings.finished_spelling),
        )
        await reached(Checkpoint.FINISH_WRITTEN)
        seconds = await self.store.finish(leased, status, why(counts, status), counts, previewed)
        await reached(Checkpoint.FINISH_STORED)
        if seconds is not None:
            self.news.ended(leased, status, why(counts, status), counts, seconds)

    async def _counts_by_operation(self, job: JobRow, listed: list[Part]) -> OperationCounts:
        """Count operations, not parts: a read of several parts succeeds only if every part does.

        A failure in an object that was removed or corrupted counts as a failed operation.
        """
        failures, lost = await load_failures(self.objects, job.results_bucket, listed)
        states = Counter(failures.values())
        states[OperationState.FAILED] += min(lost, job.operations - states.total())
        states[OperationState.SUCCEEDED] = job.operations - states.total()
        counts = count(states)
        return replace(counts, failed=counts.failed - job.unmatched, unmatched=job.unmatched)


def _request(job: LeasedJob) -> bytes:
    return zstandard.ZstdDecompressor().decompress(job.body or b"", max_output_size=_MAX_REQUEST)


def refusals(refused: Iterable[RejectedOperation]) -> Iterable[Response]:
    """Yield a response for every operation that is in no sub-job, in order."""
    for each in refused:
        yield from make_responses([each.operation], each.state, each.reason, each.detail)
