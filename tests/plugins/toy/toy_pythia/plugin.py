"""What the toy adds to Pythia; its classes are imported when they are asked for."""

from pythia_core import hookimpl


@hookimpl
def pythia_register_sources():  # type: ignore[no-untyped-def]
    """Add the source that counts."""
    from toy_pythia.parts import ToySource  # type: ignore[import-not-found]

    return {"toy": ToySource}


@hookimpl
def pythia_register_sinks():  # type: ignore[no-untyped-def]
    """Add the sink that forgets."""
    from toy_pythia.parts import ToySink

    return {"toy": ToySink}


@hookimpl
def pythia_register_middleware():  # type: ignore[no-untyped-def]
    """Add the middleware that does nothing."""
    from toy_pythia.parts import ToyMiddleware

    return {"toy": ToyMiddleware}


@hookimpl
def pythia_register_scaling_policies():  # type: ignore[no-untyped-def]
    """Add the policy that always wants as many."""
    from toy_pythia.parts import ToyPolicy

    return {"toy": ToyPolicy}


@hookimpl
def pythia_register_telemetry():  # type: ignore[no-untyped-def]
    """Add the telemetry that hears nothing."""
    from toy_pythia.parts import ToyTelemetry

    return {"toy": ToyTelemetry}


@hookimpl
def pythia_register_commands():  # type: ignore[no-untyped-def]
    """Add a command."""
    from toy_pythia.command import toy  # type: ignore[import-not-found]

    return [toy]
