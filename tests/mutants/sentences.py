"""Sentence by sentence: what the engine's docstrings and design say beside their headlines, and the tests that miss it.

It stands apart from :mod:`tests.mutants.table`, which has a headline for each part of the design, so that both stay
readable: an entry here is one line that keeps one sentence true.
"""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant


def says(guarantee: str, module: str, old: str, new: str, test: str) -> Mutant:
    """Return a mutant of a module of the engine, whose test is in the engine's folder."""
    return Mutant(guarantee, f"pythia_core/engine/{module}.py", old, new, f"tests/engine/test_{test}")


def manages(module: str, old: str, new: str, test: str) -> Mutant:
    """Return a mutant of a module of the supervisor, whose test is that of its mind."""
    path = f"pythia_core/supervisor/{module}.py"
    return Mutant("supervisor", path, old, new, f"tests/supervisor/test_machine.py::test_{test}")


SENTENCES: Final = (
    # -- supervisor ----------------------------------------------------------------------------------------------
    manages(
        "roll",
        '            return self._halt(fleet, self.new, f"is not ready',
        '            return self._take_over(fleet, self.new) or self._halt(fleet, self.new, f"is not ready',
        "a_roll_halts_at_the_first_that_does_not_get_ready",
    ),
    manages(
        "roll",
        "        if self.retiring in fleet.children:\n            return True\n",
        "",
        "a_roll_replaces_each_child_after_its_successor_is_ready",
    ),
    manages(
        "machine",
        "if self.roll is not None or self._recycling() or None in seats:",
        "if self.roll is not None or None in seats:",
        "recycled_one_at_a_time",
    ),
    manages(
        "machine",
        "if self.roll is not None or self._recycling() or None in seats:",
        "if self.roll is not None or self._recycling():",
        "nobody_is_recycled_while_another_child_is_missing",
    ),
    says(
        "event loops",
        "engine",
        "        self.clock = loop_clock()\n",
        "        self.clock = time.time\n",
        "clock.py::test_a_wall_clock_that_jumps_changes_nothing",
    ),
    # -- outcomes ------------------------------------------------------------------------------------------------
    says(
        "outcomes",
        "outcomes",
        "if failure.attempts >= policy.attempts:",
        "if failure.attempts >= policy.attempts and not isinstance(error, Retry):",
        "retry.py::test_retries_asked_for_count_as_attempts",
    ),
    says(
        "handler timeout",
        "pool",
        "            if slot.reason is not None:\n                return slot.reason\n",
        "",
        "timeout.py::test_a_handler_that_runs_too_long_is_cancelled_and_its_worker_replaced",
    ),
    # -- brake ---------------------------------------------------------------------------------------------------
    says(
        "brake",
        "brake",
        "            self._failures += 1\n            self._successes = 0\n",
        "            self._successes = 0\n",
        "brake.py::test_probes_back_off_and_a_success_is_followed_at_once",
    ),
    says(
        "brake",
        "brake",
        " + len(self._published)",
        "",
        "brake.py::test_outputs_on_their_way_count_as_successes",
    ),
    says(
        "brake",
        "brake",
        "elif not self.engaged and message.attempt == 1:",
        "elif not self.engaged:",
        "brake.py::test_two_failures_of_one_message_are_one",
    ),
    says(
        "brake",
        "brake",
        "return LET_IN if self._hungry and self._ready(failed=False) is None else 0",
        "return 0",
        "brake.py::test_with_nothing_in_flight_it_recovers",
    ),
    says(
        "brake",
        "brake",
        "            self._beyond += self._policy.probes\n",
        "            pass\n",
        "brake.py::test_bounds_that_are_used_up_do_not_keep_it_engaged",
    ),
    says(
        "brake",
        "brake",
        "self._stops.add(self._reason, self._wanted, lambda: self._beyond)",
        "self._stops.add(self._reason, self._wanted, lambda: 10_000)",
        "brake.py::test_few_come_in_beyond_the_bounds",
    ),
    says(
        "brake",
        "intake",
        "if (stopped or self.left_out) and BYTES",
        "if stopped and BYTES",
        "brake.py::test_bounds_that_are_used_up_do_not_keep_it_engaged",
    ),
    says(
        "brake",
        "disposition",
        "if not isinstance(error, AT_ONCE) and self._brake.failed(message):",
        "if self._brake.failed(message):",
        "brake.py::test_what_would_fail_for_ever_does_not_engage_it",
    ),
    # -- hold ----------------------------------------------------------------------------------------------------
    says(
        "hold",
        "hold",
        "parked is not None and held >= self._longest",
        "held >= self._longest",
        "hold.py::test_a_message_that_runs_is_never_given_up",
    ),
    says(
        "hold",
        "hold",
        "        self._parking.take(lambda other: other is message)\n",
        "",
        "hold.py::test_a_failing_message_is_given_up_after_max_hold",
    ),
    # -- dead letters and outputs --------------------------------------------------------------------------------
    says(
        "dead letter",
        "engine",
        "            self._session.intake.close(ledger.partition)\n",
        "",
        "dead_letters.py::test_without_a_place_for_dead_letters_the_partition_stops",
    ),
    says(
        "dead letter",
        "intake",
        "            if ledger.stopped is not None:  # by a fetch that began before it stopped\n                continue\n",
        "",
        "limits.py::test_a_partition_that_stopped_is_not_asked_again",
    ),
    says(
        "outputs",
        "disposition",
        "        self._note(message, refusal)\n        self._bury(message, refusal)\n",
        "        self._note(message, refusal)\n        self._parking.park(message, 0.0)\n",
        "outputs.py::test_an_output_that_can_never_be_written_is_a_dead_letter_at_once",
    ),
    says(
        "outputs",
        "publisher",
        "self._queue.extendleft(reversed(self._held.pop(key)))",
        "self._queue.extendleft(self._held.pop(key))",
        "outputs.py::test_a_failed_output_holds_back_later_ones_of_its_key_only",
    ),
    says(
        "outputs",
        "publisher",
        'refusal = WriteError(f"{type(error).__name__}: {error}", permanent=True)',
        'refusal = WriteError(f"{type(error).__name__}: {error}")',
        "outputs.py::test_an_output_to_a_sink_that_is_not_open_says_so",
    ),
    says(
        "outputs",
        "work",
        "for message in (*running, *publishing) if",
        "for message in running if",
        "revoke.py::test_a_revoke_waits_for_outputs_and_settles_what_they_belong_to",
    ),
    # -- limits --------------------------------------------------------------------------------------------------
    says(
        "limits",
        "intake",
        "            count = admission.count\n",
        "",
        "limits.py::test_a_gate_decides_how_much_comes_in",
    ),
    says(
        "limits",
        "stops",
        "min(allowed() for allowed, _ in self._allowed.values())",
        "max(allowed() for allowed, _ in self._allowed.values())",
        "stops.py::test_a_reason_may_allow_a_few_and_the_strictest_counts",
    ),
    says(
        "limits",
        "intake",
        "            most = min(most, self._stops.allowed)\n",
        "",
        "stops.py::test_nothing_is_fetched_while_there_is_a_reason",
    ),
    says(
        "fair intake",
        "intake",
        "                rooms[partition] = rest  # the last in line\n",
        "                self._rooms = {partition: rest, **rooms}\n                rooms = self._rooms\n",
        "fairness.py::test_whoever_was_served_goes_to_the_end_of_the_line",
    ),
    # -- running alone -------------------------------------------------------------------------------------------
    says(
        "a message that kills its process",
        "pool",
        "        self._pauses -= 1\n        if not self._pauses:\n",
        "        self._pauses = 0\n        if not self._pauses:\n",
        "pause.py::test_a_pause_ends_when_it_was_resumed_as_often",
    ),
    says(
        "a message that kills its process",
        "pool",
        "        while self.at_work:  # noqa: ASYNC110 - see LOOK\n            await anyio.sleep(LOOK)\n",
        "        await anyio.sleep(0)\n",
        "pause.py::test_a_message_runs_alone",
    ),
    says(
        "a message that kills its process",
        "pool",
        "return [slot for slot in self.running if slot.active]",
        "return self.running",
        "pause.py::test_a_handler_that_ignores_its_cancellation_is_not_waited_for",
    ),
    says(
        "a message that kills its process",
        "pool",
        "        if message not in self._scheduler.ready:\n            return False\n        self._scheduler.ready.remove(message)\n",
        "        if message in self._scheduler.ready:\n            self._scheduler.ready.remove(message)\n",
        "pause.py::test_what_is_gone_is_not_run_alone",
    ),
    says(
        "a message that kills its process",
        "suspects",
        "        if self._engine.brake.engaged and message.id in self._probed:\n            return True\n",
        "",
        "suspects.py::test_with_nothing_but_suspects_the_brake_is_released",
    ),
    says(
        "a message that kills its process",
        "work",
        "parked + held + in_line, self.started(wanted)",
        "parked + held, self.started(wanted)",
        "suspects.py::test_a_lost_partition_leaves_the_line",
    ),
    says(
        "a message that kills its process",
        "line",
        "            if line[0].position >= self._until(ledger):\n",
        "            if False:\n",
        "suspects.py::test_what_lies_beyond_the_range_waits_and_then_runs_as_ever",
    ),
    says(
        "a message that kills its process",
        "noted_ledger",
        "solo = self.solo if self.leaving else self.trying or self.solo",
        "solo = self.trying or self.solo",
        "suspects.py::test_a_suspect_that_goes_on_though_cut_off_is_named_no_more",
    ),
    says(
        "a message that kills its process",
        "noted_ledger",
        '        if solo is None or solo[0] < through or done[solo[0] - through : solo[0] - through + 1] == b"\\1":\n',
        "        if solo is None:\n",
        "suspects.py::test_a_note_names_a_suspect_until_it_is_done",
    ),
    # -- notes ---------------------------------------------------------------------------------------------------
    says(
        "notes",
        "notes",
        "if found is None or int(found[1]) != base:",
        "if found is None:",
        "notes.py::test_a_text_of_another_position_says_nothing",
    ),
    says(
        "notes",
        "notes",
        "        reach //= 2\n",
        "        return text[:LONGEST]\n",
        "notes.py::test_what_is_far_off_is_left_out_first",
    ),
    says(
        "notes",
        "notes",
        "    except (ValueError, zlib.error):\n        return None\n",
        "    except ZeroDivisionError:\n        return None\n",
        "notes.py::test_reading_never_raises",
    ),
    says(
        "notes",
        "noted_ledger",
        "            _place(done, self._end - through, self._earlier.done[self._end - self._earlier.base :])\n",
        "            pass\n",
        "notes.py::test_what_was_not_fetched_again_stands_in_the_next_note",
    ),
    says(
        "notes",
        "disposition",
        "        message._ledger.note_attempts(message, failure.attempts)\n",
        "",
        "notes.py::test_attempts_of_a_stop_count_towards_the_dead_letter",
    ),
    says(
        "notes",
        "noted_ledger",
        "opened = 0 if self.leaving else 1 if moved else self.opened",
        "opened = 1 if moved else self.opened",
        "notes.py::test_an_end_in_good_order_is_found_as_such",
    ),
    says(
        "notes",
        "opening",
        "if (each.partition, each.assignment.id) in told",
        "if told",
        "opening.py::test_a_partition_waits_for_its_own_note_only",
    ),
    # -- revoke --------------------------------------------------------------------------------------------------
    says(
        "revoke",
        "work",
        "        self._cancel(lambda ledger: ledger in wanted)\n",
        "",
        "cut_off.py::test_what_a_revoke_cuts_off_is_given_back_and_the_rest_goes_on",
    ),
    says(
        "revoke",
        "work",
        '            self._disposition.failed(message, Revoked("its outputs were not confirmed in time"))\n',
        "            self._scheduler.complete(message)\n",
        "cut_off.py::test_a_message_whose_output_is_not_confirmed_in_time_is_given_back",
    ),
    says(
        "revoke",
        "session",
        "            self._drop(ledger)\n        self.drain.nudge()\n",
        "            self._drop(ledger)\n",
        "revoke.py::test_a_partition_lost_during_its_revoke_is_not_waited_for",
    ),
    says(
        "revoke",
        "drain",
        "            if self._progress.is_set():  # else another drain waits for it too\n",
        "            if True:\n",
        "revoke.py::test_two_revokes_at_a_time_both_return_when_they_are_done",
    ),
    says(
        "revoke",
        "session",
        "            if self.ledgers.get(ledger.partition) is ledger:\n                self.lost([ledger.partition])\n",
        "",
        "revoke.py::test_an_assignment_that_is_refused_is_lost",
    ),
    # -- stop ----------------------------------------------------------------------------------------------------
    says(
        "stop",
        "work",
        "publishing = [job.message for job in self._publisher.jobs]",
        "publishing: list[Message[Any]] = []",
        "stop.py::test_outputs_are_confirmed_before_a_stop_ends",
    ),
    says(
        "stop",
        "drain",
        "        engine.parking.hold()\n",
        "",
        "stop.py::test_nothing_is_started_while_the_client_hangs",
    ),
    says(
        "stop",
        "session",
        "                    await self._engine.stop_begun()\n                    group.cancel_scope.cancel()\n",
        "                    await self._engine.stop_begun()\n",
        "stop.py::test_a_stop_ends_a_subscribe_that_hangs",
    ),
    says(
        "stop",
        "engine",
        "        with anyio.move_on_after(delay):\n            await self.stop_begun()\n",
        "        await anyio.sleep(delay)\n",
        "stop.py::test_a_stop_ends_the_wait_before_the_next_subscribe",
    ),
    says(
        "stop",
        "session",
        "max(self._engine.deadline, began + CLOSE_GRACE)",
        "began + CLOSE_DEADLINE",
        "stop.py::test_a_subscription_that_does_not_close_has_a_second",
    ),
    says(
        "stop",
        "session",
        "max(self._engine.deadline, began + CLOSE_GRACE)",
        "self._engine.deadline",
        "stop.py::test_a_subscription_that_does_not_close_has_a_second",
    ),
    says(
        "stop",
        "drain",
        "self._patience.deadline = min(self._patience.deadline, self._engine.clock() + FORCED_SETTLE)",
        "pass",
        "stop.py::test_force_does_not_wait_for_a_client_that_hangs",
    ),
    says(
        "stop",
        "session",
        "        with self.drain.within(max(engine.deadline, engine.clock() + FORCED_SETTLE)):\n",
        "        with anyio.CancelScope():\n",
        "stop.py::test_force_does_not_wait_for_a_client_that_hangs",
    ),
    says(
        "stop",
        "session",
        '        except Exception as error:\n            log.warning("%s did not stop to deliver',
        '        except ZeroDivisionError as error:\n            log.warning("%s did not stop to deliver',
        "stop.py::test_a_stop_that_the_client_fails_still_drains",
    ),
    says(
        "revoke",
        "committer",
        "            if self._clock() >= deadline:\n                return False\n",
        "",
        "revoke.py::test_a_revoke_ends_by_its_deadline_though_the_broker_does_not_answer",
    ),
    says(
        "stop",
        "session",
        "                self.admission.admit(await (self._fetch(limit) if limit else self._look_in()))\n",
        "                chunks = await (self._fetch(limit) if limit else self._look_in())\n"
        "                await anyio.lowlevel.checkpoint()\n                self.admission.admit(chunks)\n",
        "stop.py::test_calls_of_a_client_are_made_as_it_was_promised",
    ),
    # -- health --------------------------------------------------------------------------------------------------
    says(
        "health",
        "engine",
        "return Health(live, False, (*reasons, self._trouble or",
        "return Health(live, True, (*reasons, self._trouble or",
        "health.py::test_ready_only_while_subscribed",
    ),
    says(
        "health",
        "engine",
        "            if not failures:  # or why",
        "            if True:  # or why",
        "health.py::test_a_fetch_that_raises_ends_the_subscription_and_another_follows",
    ),
    says(
        "health",
        "engine",
        '        self._trouble = f"{self.source.name}: {type(error).__name__}: {error}"\n',
        "",
        "health.py::test_while_the_broker_is_down_the_reason_is_what_it_said",
    ),
    says(
        "health",
        "engine",
        "            except ConfigError:\n                raise\n",
        "",
        "health.py::test_settings_that_cannot_work_end_the_engine",
    ),
    says(
        "health",
        "engine",
        "RESUBSCRIBE_BASE, RESUBSCRIBE_FACTOR, RESUBSCRIBE_CAP = 0.5, 2.0, 10.0",
        "RESUBSCRIBE_BASE, RESUBSCRIBE_FACTOR, RESUBSCRIBE_CAP = 0.5, 2.0, 60.0",
        "health.py::test_subscribing_again_backs_off",
    ),
    says(
        "leftovers",
        "sweep",
        "            engine.beyond_help = None\n",
        "            pass\n",
        "leftovers.py::test_where_the_process_is_not_ours_it_is_only_reported",
    ),
    says(
        "leftovers",
        "work",
        ' or entry[1] == "cancelled"]',
        "]",
        "leftovers.py::test_a_handler_that_ignores_its_timeout_is_named_and_its_place_taken",
    ),
    # -- watchdog and memory -------------------------------------------------------------------------------------
    says(
        "watchdog",
        "watchdog",
        "        elif not self._suspicious:\n            self._suspicious = True\n",
        "",
        "watchdog.py::test_two_looks_with_a_message_between_them_are_none",
    ),
    says(
        "memory gate",
        "memory",
        "        elif used <= self._threshold * RESUME:\n",
        "        elif used <= self._threshold:\n",
        "memory.py::test_thresholds_differ",
    ),
    # -- committer -----------------------------------------------------------------------------------------------
    says(
        "committer",
        "committer",
        "            if self._passed.is_set():  # else another flush waits for it too\n                self._passed = anyio.Event()\n",
        "            self._passed = anyio.Event()\n",
        "revoke.py::test_two_revokes_at_a_time_both_return_when_they_are_done",
    ),
    says(
        "committer",
        "committer",
        "self._least = POSITION_THRESHOLD if positions else THRESHOLD",
        "self._least = THRESHOLD",
        "committer.py::test_a_position_waits_for_more_messages_than_a_list_of_them",
    ),
    says(
        "middleware and telemetry",
        "engine",
        "timed = any(telemetry.durations for telemetry in self._telemetry)",
        "timed = True",
        "telemetry.py::test_durations_are_measured_only_for_who_wants_them",
    ),
    says(
        "middleware and telemetry",
        "batches",
        "        finally:\n            self._stats.count_duration(self._clock() - began)\n",
        "        finally:\n            pass\n",
        "telemetry.py::test_a_batch_is_timed_as_one_call",
    ),
)
