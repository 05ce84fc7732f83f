"""The table: for every part of the engine's design, the passages that keep its promises and the tests that miss them."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

ENGINE: Final = "pythia_core/engine"
TESTS: Final = "tests/engine"
MODEL: Final = f"{TESTS}/test_model.py::TestCore"

GUARANTEES: Final = (
    "ledger",
    "scheduler",
    "outcomes",
    "handler timeout",
    "parking",
    "dead letter",
    "outputs",
    "limits",
    "fair intake",
    "batches",
    "brake",
    "a message that kills its process",
    "notes",
    "hold",
    "memory gate",
    "leftovers",
    "watchdog",
    "committer",
    "revoke",
    "stop",
    "cancellation",
    "health",
    "middleware and telemetry",
    "ready middleware",
    "hot path",
)


def engine(guarantee: str, module: str, old: str, new: str, test: str) -> Mutant:
    """Return a mutant of a module of the engine, whose test is in the engine's folder."""
    where = test if test.startswith("tests/") else f"{TESTS}/{test}"
    return Mutant(guarantee, f"{ENGINE}/{module}.py", old, new, where)


def ready(module: str, old: str, new: str, test: str) -> Mutant:
    """Return a mutant of a middleware that comes with the core."""
    return Mutant(
        "ready middleware", f"pythia_core/middleware/{module}.py", old, new, f"tests/middleware/{test}"
    )


MUTANTS: Final = (
    # -- ledger: what was admitted, what became of it, what may be settled ---------------------------------------
    engine("ledger", "offset_ledger", "self.state.find(OPEN, self._low - self.base)", "-1", MODEL),
    engine("ledger", "offset_ledger", "        if self.closed:\n            return None\n", "", MODEL),
    engine("ledger", "token_ledger", "        if self.closed:\n            return None\n", "", MODEL),
    engine(
        "ledger",
        "offset_ledger",
        "        del self._segments[:keep]\n",
        "        self._segments.clear()\n",
        MODEL,
    ),
    engine(
        "ledger",
        "offset_ledger",
        "        if position is not None:\n            self.end = position\n        elif messages:",
        "        if messages:",
        MODEL,
    ),
    engine(
        "ledger",
        "pool",
        "            if ledger.closed:\n                slot.message = None\n                scheduler.orphan_ended(message)\n                continue\n",
        "",
        "test_revoke.py::test_a_revoke_ends_by_its_deadline_and_a_late_result_changes_nothing",
    ),
    # -- scheduler: which message runs next ----------------------------------------------------------------------
    engine(
        "scheduler", "scheduler", "                if lane in lanes:\n", "                if False:\n", MODEL
    ),
    engine(
        "scheduler",
        "scheduler",
        "                ledger.lanes[lane] = orphan\n",
        "                pass\n",
        MODEL,
    ),
    engine(
        "scheduler",
        "pool",
        "                    if streak < STREAK:\n",
        "                    if True:\n",
        "test_hot_path.py::test_a_key_with_much_to_do_lets_others_have_their_turn",
    ),
    engine(
        "scheduler",
        "scheduler",
        "            if lane is None:\n                ready.append(message)\n            else:\n",
        "            if True:\n",
        "test_outcomes.py::test_messages_without_a_key_do_not_wait_for_one_another",
    ),
    engine(
        "scheduler",
        "pool",
        "                while now >= self._turn_ends:",
        "                while False:",
        "test_hot_path.py::test_the_loop_turns_while_the_workers_are_busy",
    ),
    # -- outcomes ------------------------------------------------------------------------------------------------
    engine(
        "outcomes",
        "outcomes",
        "    if failure.attempts >= policy.attempts:\n        return Bury(error)\n",
        "",
        "test_retry.py::test_a_message_is_run_exactly_as_often_as_the_policy_says",
    ),
    engine(
        "outcomes",
        "outcomes",
        "AT_ONCE = (Reject, DecodeError, MessageTooLarge, Crashed)",
        "AT_ONCE = (DecodeError, MessageTooLarge, Crashed)",
        "test_outcomes.py::test_reject_is_a_dead_letter_at_once",
    ),
    engine(
        "outcomes",
        "outcomes",
        "AT_ONCE = (Reject, DecodeError, MessageTooLarge, Crashed)",
        "AT_ONCE = (Reject, MessageTooLarge, Crashed)",
        "test_outcomes.py::test_a_body_that_cannot_be_decoded_is_a_dead_letter_at_once",
    ),
    engine(
        "outcomes",
        "disposition",
        "        if isinstance(error, Skip):\n",
        "        if False:\n",
        "test_outcomes.py::test_skip_settles",
    ),
    engine(
        "outcomes",
        "outcomes",
        "        return Park(error.delay)\n",
        "        pass\n",
        "test_retry.py::test_retry_says_its_own_delay",
    ),
    engine(
        "outcomes",
        "pool",
        "            if anyio.current_effective_deadline() == -math.inf:\n                raise error\n",
        "",
        "test_outcomes.py::test_the_engines_own_cancellation_is_nobodys_failure",
    ),
    engine(
        "outcomes",
        "pool",
        "            if anyio.current_effective_deadline() == -math.inf:\n",
        "            if True:\n",
        "test_outcomes.py::test_a_cancellation_that_is_not_ours_is_the_messages_failure",
    ),
    # -- handler timeout -----------------------------------------------------------------------------------------
    engine(
        "handler timeout",
        "sweep",
        "            if engine.clock() - slot.since > self._timeout:\n",
        "            if False:\n",
        "test_timeout.py::test_a_handler_that_runs_too_long_is_cancelled_and_its_worker_replaced",
    ),
    engine(
        "handler timeout",
        "pool",
        "            if not slot.alone:\n                self._hire()\n",
        "",
        "test_timeout.py::test_a_handler_that_runs_too_long_is_cancelled_and_its_worker_replaced",
    ),
    # -- parking -------------------------------------------------------------------------------------------------
    engine(
        "parking",
        "parking",
        "        if self._heap[0] is entry:\n            self._earlier.set()\n",
        "",
        "test_retry.py::test_a_shorter_delay_overtakes_a_longer_one",
    ),
    engine(
        "parking",
        "parking",
        "            while self._waiting and self._heap[0][0] <= now:\n",
        "            while self._waiting:\n",
        "test_retry.py::test_a_retry_parks_its_key_while_others_flow",
    ),
    engine(
        "parking",
        "work",
        "        parked = self._parking.take(lambda message: message._ledger in wanted)\n",
        "        parked: list[Message[Any]] = []\n",
        "test_stop.py::test_a_stop_does_not_wait_for_parked_messages",
    ),
    # -- dead letter ---------------------------------------------------------------------------------------------
    engine(
        "dead letter",
        "disposition",
        "        self._publisher.put(message, [output], done=buried, refused=refused)\n",
        "        self._publisher.put(message, [output], done=lambda message: None, refused=refused)\n        buried(message)\n",
        "test_dead_letters.py::test_a_dead_letter_is_confirmed_before_its_message_is_settled",
    ),
    engine(
        "dead letter",
        "disposition",
        "        self._write_dead_letter(message, error, True, self._reference_refused)\n",
        "        self._scheduler.complete(message)\n",
        "test_dead_letters.py::test_a_dead_letter_that_can_never_be_written_whole_becomes_a_reference",
    ),
    engine(
        "dead letter",
        "disposition",
        "        ledger.stopped = reason\n",
        "        ledger.stopped = None\n",
        "test_dead_letters.py::test_without_a_place_for_dead_letters_the_partition_stops",
    ),
    # -- outputs -------------------------------------------------------------------------------------------------
    engine(
        "outputs",
        "publisher",
        "        if job.over or (error is None and job.remaining):\n",
        "        if job.over:\n",
        "test_outputs.py::test_a_failed_branch_is_retried_alone",
    ),
    engine(
        "outputs",
        "publisher",
        "            if key is not None and key in self._held:\n",
        "            if False:\n",
        "test_outputs.py::test_an_output_waits_for_one_of_its_key_that_failed_earlier",
    ),
    engine(
        "outputs",
        "publisher",
        "            if pending.job.over:\n                continue\n",
        "",
        "test_revoke.py::test_outputs_of_a_lost_partition_are_not_written",
    ),
    # -- limits --------------------------------------------------------------------------------------------------
    engine(
        "limits",
        "intake",
        "RESUME = 0.7\n",
        "RESUME = 0.99\n",
        "test_limits.py::test_messages_in_flight_are_bounded_and_intake_resumes_at_70_percent",
    ),
    engine(
        "limits",
        "intake",
        "        self._check(BYTES, self._bytes, limits.bytes)\n",
        "",
        "test_limits.py::test_bytes_in_flight_are_bounded",
    ),
    engine(
        "limits",
        "admission",
        "        if max(sizes) <= engine.settings.limits.message_bytes and not singly:\n",
        "        if not singly:\n",
        "test_limits.py::test_a_message_that_is_too_large_is_a_dead_letter_by_reference",
    ),
    # -- committer -----------------------------------------------------------------------------------------------
    engine(
        "committer",
        "committer",
        "            self._due = self._clock() + delay\n            return False\n",
        "            self._due = self._clock() + delay\n            return True\n",
        "test_stop.py::test_a_stop_settles_again_what_the_broker_did_not_take",
    ),
    engine(
        "committer",
        "committer",
        "max(self._clock() + IDLE_GRACE, self._paced)",
        "self._clock() + IDLE_GRACE",
        "test_committer.py::test_idle_moments_do_not_commit_a_position_each",
    ),
    engine(
        "committer",
        "session",
        " and not (self._subscription and self._subscription.more_is_coming)",
        "",
        "test_committer.py::test_waiting_for_what_is_coming_is_no_idle_moment",
    ),
    # -- revoke --------------------------------------------------------------------------------------------------
    engine(
        "revoke",
        "session",
        "        self._engine.work.cancel_orphans()\n",
        "",
        "test_revoke.py::test_a_handler_is_cancelled_at_the_deadline_of_a_revoke",
    ),
    engine(
        "revoke",
        "session",
        "        await self.drain.finish(ledgers, deadline, deadline - 0.1 * max(deadline - now, 0.0))\n",
        "",
        "test_revoke.py::test_a_rebalance_repeats_nothing",
    ),
    # -- stop ----------------------------------------------------------------------------------------------------
    engine(
        "stop",
        "drain",
        "                message._ledger.mark(message, RELEASED)\n",
        "                pass\n",
        "test_stop.py::test_what_is_given_back_has_not_failed",
    ),
    engine(
        "stop",
        "disposition",
        "        if message._ledger.draining:\n            self._give_back(message)\n            return\n        self._stats.retried += 1\n",
        "        self._stats.retried += 1\n",
        "test_stop.py::test_a_failure_during_a_stop_is_given_back",
    ),
    # -- cancellation --------------------------------------------------------------------------------------------
    engine(
        "cancellation",
        "session",
        "                    self._subscription = await self._source.subscribe(self)\n",
        "                    made = await self._source.subscribe(self)\n"
        "                    await anyio.sleep(0)\n"
        "                    self._subscription = made\n",
        "test_cancellation.py::test_a_run_cut_off_at_any_step_loses_nothing",
    ),
    # -- health --------------------------------------------------------------------------------------------------
    engine(
        "health",
        "work",
        "if now - entry[0] >= STUCK or",
        "if",
        "test_health.py::test_a_message_that_is_stuck_is_named",
    ),
    # -- hot path ------------------------------------------------------------------------------------------------
    engine(
        "hot path",
        "pool",
        "                result = await handler(message)\n",
        "                await checkpoint()\n                result = await handler(message)\n",
        "test_hot_path.py::test_nothing_dear_is_made_for_a_message",
    ),
    # -- fair intake ---------------------------------------------------------------------------------------------
    engine(
        "fair intake",
        "intake",
        "            self.room, most = self._shares(most)\n",
        "            pass\n",
        "test_fairness.py::test_partitions_full_of_parked_messages_do_not_stop_the_others",
    ),
    engine(
        "fair intake",
        "intake",
        "if owed[p] >= least else 0",
        "",
        "test_fairness.py::test_nobody_takes_anothers_share",
    ),
    # -- batches -------------------------------------------------------------------------------------------------
    engine(
        "batches",
        "batches",
        "            if self._is_void(index):\n                self.voided[index] = None\n            elif (error",
        "            if (error",
        "test_batches.py::test_with_ordering_a_failed_index_voids_the_later_ones_of_its_key",
    ),
    engine(
        "batches",
        "batches",
        "            if len(part) > 1:\n                return error\n            verdict.enter(part, {0: error}, ())\n",
        "            verdict.enter(part, dict.fromkeys(range(len(part)), error), ())\n",
        "test_batches.py::test_one_poison_message_is_found_and_dies_alone",
    ),
    engine(
        "batches",
        "batches",
        "self.batch[index]._ledger.closed or self._is_void(index)",
        "self._is_void(index)",
        "test_batch_model.py::test_what_is_lost_in_the_middle_of_a_split_is_not_run",
    ),
    engine(
        "batches",
        "batches",
        "self.batch[index]._ledger.closed or self._is_void(index)",
        "self.batch[index]._ledger.closed",
        "test_batch_model.py::test_what_the_left_half_voids_is_not_run",
    ),
    engine(
        "batches",
        "batches",
        "            verdict.enter(part, _checked(named, len(part)), (None,) * len(part))\n",
        "            verdict.enter(part, dict.fromkeys(range(len(part)), named), ())\n",
        "test_batches.py::test_only_the_named_indexes_fail",
    ),
    # -- brake ---------------------------------------------------------------------------------------------------
    engine(
        "brake",
        "disposition",
        "            self._put_off(message, error)\n",
        "            pass\n",
        "test_brake.py::test_an_outage_costs_no_message_its_attempts",
    ),
    engine(
        "brake",
        "brake",
        "        self._pool().pause()\n",
        "",
        "test_brake.py::test_probes_are_one_at_a_time",
    ),
    engine(
        "brake",
        "brake",
        "        self._stops.add(self._reason, self._wanted)\n",
        "",
        "test_brake.py::test_an_outage_costs_no_message_its_attempts",
    ),
    engine(
        "brake",
        "brake",
        "        if len(self._ended) == self._ended.maxlen and ended - self._ended[0] < self._policy.window:\n",
        "        if len(self._ended) == self._ended.maxlen:\n",
        "test_brake.py::test_half_or_less_never_engages_it",
    ),
    engine(
        "brake",
        "sweep",
        "() if self._engine.brake.engaged else ",
        "",
        "test_brake.py::test_an_outage_longer_than_a_hold_gives_up_nothing",
    ),
    # -- a message that kills its process ------------------------------------------------------------------------
    engine(
        "a message that kills its process",
        "admission",
        " or engine.suspects.among(messages)",
        "",
        "test_suspects.py::test_a_killer_among_a_hundred",
    ),
    engine(
        "a message that kills its process",
        "suspects",
        "        session.drain.release(ledgers)\n",
        "",
        "test_suspects.py::test_what_waits_is_given_back_first",
    ),
    engine(
        "a message that kills its process",
        "suspects",
        "            self._engine.pool.pause()\n",
        "",
        "test_suspects.py::test_a_suspect_that_waits_for_its_retry_does_not_run_beside_another",
    ),
    engine(
        "a message that kills its process",
        "noted_ledger",
        "self.suspicious = self.opened > SUSPECT_AFTER or self.solo is not None",
        "self.suspicious = False",
        "test_suspects.py::test_a_killer_among_a_hundred_of_a_log",
    ),
    engine(
        "a message that kills its process",
        "line",
        "        if count >= SOLO_CRASHES:\n",
        "        if False:\n",
        "test_suspects.py::test_a_killer_among_a_hundred_of_a_log",
    ),
    engine(
        "a message that kills its process",
        "line",
        "        await self._confirmed(ledger)\n",
        "",
        "test_suspects.py::test_a_killer_among_a_hundred_of_a_log",
    ),
    engine(
        "a message that kills its process",
        "line",
        "            self._engine.pool.pause()\n",
        "            pass\n",
        "test_suspects.py::test_three_ordinary_crashes_punish_nobody",
    ),
    # -- notes ---------------------------------------------------------------------------------------------------
    engine(
        "notes",
        "noted_ledger",
        "                restore_failures(message, count)\n",
        "",
        "test_notes.py::test_a_stop_repeats_nothing_behind_a_parked_message",
    ),
    engine(
        "notes",
        "noted_ledger",
        "                self.state[number - self.base] = DONE\n",
        "",
        "test_notes.py::test_a_stop_repeats_nothing_behind_a_message_that_is_slow",
    ),
    engine(
        "notes",
        "noted_ledger",
        "1 if moved else self.opened",
        "self.opened",
        "test_notes.py::test_the_count_begins_anew_when_the_position_moves",
    ),
    engine(
        "notes",
        "drain",
        "        self.leave(ledgers)\n",
        "",
        "test_notes.py::test_a_note_that_is_stale_or_damaged_is_not_believed",
    ),
    engine(
        "notes",
        "session",
        "                self.committer.soon()\n",
        "                pass\n",
        "test_notes.py::test_an_assignment_says_so_at_once_while_workers_are_busy",
    ),
    # -- hold ----------------------------------------------------------------------------------------------------
    engine(
        "hold",
        "hold",
        "held >= self._longest and not _asked_for_it(parked)",
        "held >= self._longest",
        "test_hold.py::test_a_delay_that_was_asked_for_is_not_cut_short",
    ),
    engine(
        "hold",
        "hold",
        " or head.number != number:",
        ":",
        "test_hold.py::test_a_message_behind_another_is_not_given_up_for_it",
    ),
    # -- memory --------------------------------------------------------------------------------------------------
    engine(
        "memory gate",
        "memory",
        "                self._stops.add(REASON)\n",
        "                pass\n",
        "test_memory.py::test_intake_stops_and_resumes_below_the_threshold",
    ),
    engine(
        "memory gate",
        "memory",
        "        elif not self._asked and self._idle():\n",
        "        elif not self._asked:\n",
        "test_memory.py::test_the_process_is_replaced_once_nothing_is_at_work",
    ),
    # -- leftovers -----------------------------------------------------------------------------------------------
    engine(
        "leftovers",
        "sweep",
        "            engine.end_process(why, Exit.WATCHDOG)\n",
        "            pass\n",
        "test_leftovers.py::test_a_revoked_handler_that_does_not_end_ends_the_process",
    ),
    # -- watchdog ------------------------------------------------------------------------------------------------
    engine(
        "watchdog",
        "watchdog",
        "            self._session.fail(SubscriptionLost(why))\n",
        "            pass\n",
        "test_watchdog.py::test_a_deaf_client_is_replaced",
    ),
    engine(
        "watchdog",
        "watchdog",
        " and not session.busy_or_stopped:",
        ":",
        "test_watchdog.py::test_silence_with_a_reason_is_not_looked_at",
    ),
    # -- middleware and telemetry --------------------------------------------------------------------------------
    engine(
        "middleware and telemetry",
        "wrapping",
        "    outermost_first = sorted(middleware, key=lambda layer: layer.phase)\n",
        "    outermost_first = list(middleware)\n",
        "test_middleware.py::test_middleware_stands_by_phase_and_then_as_configured",
    ),
    engine(
        "middleware and telemetry",
        "engine",
        "                self._telemetry.remove(telemetry)\n",
        "",
        "test_telemetry.py::test_telemetry_that_raises_is_dropped",
    ),
    # -- ready middleware ----------------------------------------------------------------------------------------
    ready(
        "rate",
        "        self._due = max(self._due, now) + 1 / self.rate\n",
        "        self._due = max(self._due, now) + 0.5 / self.rate\n",
        "test_rate.py::test_no_interval_has_more_calls_than_allowed",
    ),
    ready(
        "rate",
        "            if self._clock() >= self._lease_ends:\n                self._leased = 0\n",
        "",
        "test_rate.py::test_tokens_that_nobody_used_are_void_after_a_second",
    ),
    ready(
        "rate",
        "        if free < min(enough, count):\n",
        "        if free < 0:\n",
        "test_rate.py::test_what_would_have_to_wait_is_not_fetched",
    ),
    ready(
        "rate",
        "            self._dry_until = now + wait\n            await anyio.sleep(max(wait, 0.001))\n",
        "            await anyio.lowlevel.checkpoint()\n",
        "test_rate.py::test_a_shared_bucket_is_asked_for_some_at_once_and_waited_for",
    ),
    ready(
        "deduplicate",
        "        except BaseException:\n            await self._forget(identities, owner)\n            raise\n",
        "",
        "test_deduplicate.py::test_what_was_cut_off_is_forgotten",
    ),
    ready(
        "deduplicate",
        "        if result is None:\n",
        "        if True:\n",
        "test_deduplicate.py::test_a_message_with_outputs_is_not_remembered",
    ),
    ready(
        "deduplicate",
        "work[:first]]",
        "work]",
        "test_deduplicate.py::test_errors_of_a_batch_go_by_its_own_indexes",
    ),
    ready(
        "deduplicate",
        "            await self._forget(taken, owner)\n",
        "",
        "test_deduplicate.py::test_a_batch_with_something_that_is_being_worked_on_comes_again",
    ),
    ready(
        "deduplicate",
        "            if identity in taken:\n",
        "            if False:\n",
        "test_deduplicate.py::test_two_of_a_batch_with_one_identity_do_not_run_together",
    ),
    ready(
        "deduplicate",
        "and holder != owner",
        "",
        "test_deduplicate.py::test_asking_again_after_a_lost_answer_is_no_rival",
    ),
)
