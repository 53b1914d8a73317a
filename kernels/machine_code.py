"""Compiled kernels as machine code that stands alone: made by Numba, kept and run without it.

Numba takes half a second to be imported and made ready, llvmlite a twentieth. So a kernel's code is
kept as an object file, and whoever finds it there needs llvmlite alone. Only documented interfaces
are used: `numba.cfunc` and its `inspect_llvm`, and `llvmlite.binding`.

::

    function -- numba.cfunc --> LLVM code -- stand_alone --> object file -- link --> entry

The LLVM code is as Numba writes it down; all that makes it fast is done here, and once.

Numba's wrapper around a function can report Python errors, with the help of Numba and Python.
A kernel raises nothing and allocates nothing, so LLVM finds that out and drops all of it. What
refers to anything but the C library's memory functions is not kept: a symbol that is not there when
the code is linked would end the process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding as llvm

SYMBOL = "maestro_kernel"
ALLOWED = {"memcpy", "memmove", "memset"}  # and LLVM's own, which become these or instructions

Entry = Callable[..., None]

_engines: list[Any] = []  # what they hold is what runs: they live as long as the process


class Processor(NamedTuple):
    """What machine code is made for, in LLVM's words."""

    triple: str
    name: str
    features: str


@cache
def processor() -> Processor:
    """The one in this machine, unless ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` say another."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else _host_features()
    return Processor(llvm.get_process_triple(), name, features)


def _host_features() -> str:
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM does not know how to ask this processor
        return ""


def _target_machine() -> Any:
    triple, name, features = processor()
    # As Numba has it: code that runs where it is linked, which on x86 cannot be moved.
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=name,
        features=features,
        opt=3,
        reloc="static" if triple.startswith(("x86", "i386", "i686")) else "default",
        codemodel="jitdefault",
        jit=True,
    )


def stand_alone(code: str, name: str) -> bytes | None:
    """The function `name` of this LLVM code as an object file, or None if it needs more than that.

    In the object file it is called SYMBOL.
    """
    module = llvm.parse_assembly(code)
    for function in module.functions:
        if function.name == name:
            function.name = SYMBOL
        elif not function.is_declaration:
            function.linkage = "internal"
    machine = _target_machine()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()  # variables, for Numba has everything in memory
    passes.add_ipsccp_pass()  # the status is always 0 ...
    passes.add_simplify_cfg_pass()  # ... so nothing is ever reported ...
    passes.add_instruction_combine_pass()
    passes.add_global_dead_code_eliminate_pass()  # ... and nothing needed for that
    passes.run(module, builder)
    needed = {f.name for f in module.functions if f.is_declaration}
    needed |= {v.name for v in module.global_variables if v.is_declaration}
    if any(name not in ALLOWED and not name.startswith("llvm.") for name in needed):
        return None
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def link(code: bytes, arguments: int) -> Entry:
    """Make an object file part of this process: a function of that many int64 and addresses.

    Calls do not hold the interpreter's lock.
    """
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(SYMBOL)
    if not address:
        raise ValueError(f"there is no {SYMBOL} in this object file")
    _engines.append(engine)
    return at(address, arguments)


def at(address: int, arguments: int) -> Entry:
    """The function at an address; ctypes lets other threads run meanwhile."""
    # c_void_p: takes integers, and bytes or ctypes arrays as their addresses
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)
