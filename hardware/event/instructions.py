"""Vector instructions in LLVM's own language, for :mod:`dsr_deploy.hardware.event.vectors`.

They are generic vectors: LLVM fits them to the width that a processor has, or to none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES: Final = (64, 32, 16, 8, 1)
"""Elements at a time. A convolution's run is three target pixels of a multiple of 8 channels."""


def row_adder(bits: int) -> Callable[..., Any]:
    """Return the instructions that add rows, summing them in ``bits`` bits."""

    @intrinsic  # type: ignore[misc, unused-ignore]
    def add(
        typing: Any, total: Any, at: Any, weight: Any, offsets: Any, rows: Any, shift: Any,
        count: Any,
    ) -> Any:  # fmt: skip
        size = types.intp
        signature = types.void(total, size, weight, offsets, size, size, size)

        def instructions(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def data(index: int) -> Any:
                array = context.make_array(signature.args[index])
                return array(context, builder, arguments[index]).data

            sums = builder.gep(data(0), [arguments[1]])
            first = builder.gep(data(2), [arguments[5]])
            wide = context.get_data_type(signature.args[0].dtype)
            _emit_rows(builder, sums, first, data(3), arguments[4], arguments[6], bits, wide)
            return context.get_dummy_value()

        return signature, instructions

    adder: Callable[..., Any] = add
    return adder


def _emit_rows(
    builder: Any, sums: Any, weight: Any, offsets: Any, rows: Any, count: Any, bits: int, wide: Any
) -> None:
    """Emit the addition of several rows of ``count`` weights to the sums, summed in ``bits``."""

    def emit(place: Any, lanes: int) -> None:
        start = builder.gep(weight, [place])
        added = _emit_sum(builder, start, offsets, rows, lanes, bits)
        _emit_addition(builder, builder.gep(sums, [place]), added, wide)

    _emit_lanes(builder, count, emit)


def _emit_lanes(builder: Any, count: Any, emit: Callable[[Any, int], None]) -> None:
    """Emit, from the most lanes to one: while as many elements are left, what ``emit`` emits."""
    size = count.type
    before, done = builder.block, ir.Constant(size, 0)
    for lanes in LANES:
        head, body = (builder.append_basic_block(f"{name}{lanes}") for name in ("head", "body"))
        after = builder.append_basic_block(f"after{lanes}")
        builder.branch(head)
        builder.position_at_end(head)
        place = builder.phi(size)
        place.add_incoming(done, before)
        following = builder.add(place, ir.Constant(size, lanes))
        builder.cbranch(builder.icmp_signed("<=", following, count), body, after)
        builder.position_at_end(body)
        emit(place, lanes)
        place.add_incoming(following, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        before, done = after, place


def _emit_addition(builder: Any, sums: Any, added: Any, wide: Any) -> None:
    """Emit the addition of a vector to as many sums of type ``wide``."""
    kind = ir.VectorType(wide, added.type.count)
    pointer = builder.bitcast(sums, kind.as_pointer())
    if wide.width > added.type.element.width:
        added = builder.sext(added, kind)
    builder.store(builder.add(builder.load(pointer, align=1), added), pointer, align=1)


def _emit_row(builder: Any, weight: Any, lanes: int) -> Any:
    """Emit the load of as many weights."""
    kind = ir.VectorType(ir.IntType(8), lanes)
    return builder.load(builder.bitcast(weight, kind.as_pointer()), align=1)


def _emit_sum(builder: Any, weight: Any, offsets: Any, rows: Any, lanes: int, bits: int) -> Any:
    """Emit the sum of ``lanes`` elements of every row, in ``bits`` bits."""
    size = rows.type
    sums = ir.VectorType(ir.IntType(bits), lanes)
    before, loop = builder.block, builder.append_basic_block(f"rows{lanes}")
    after = builder.append_basic_block(f"summed{lanes}")
    builder.branch(loop)
    builder.position_at_end(loop)
    row, sum_ = builder.phi(size), builder.phi(sums)
    row.add_incoming(ir.Constant(size, 0), before)
    sum_.add_incoming(ir.Constant(sums, None), before)
    start = builder.gep(weight, [builder.load(builder.gep(offsets, [row]))])
    weights = _emit_row(builder, start, lanes)
    if bits > 8:
        weights = builder.sext(weights, sums)
    following, added = builder.add(row, ir.Constant(size, 1)), builder.add(sum_, weights)
    row.add_incoming(following, loop)
    sum_.add_incoming(added, loop)
    builder.cbranch(builder.icmp_signed("<", following, rows), loop, after)
    builder.position_at_end(after)
    return added


@intrinsic  # type: ignore[misc, unused-ignore]
def add_product_in_16_bits(
    typing: Any, total: Any, at: Any, weight: Any, first: Any, payload: Any, count: Any
) -> Any:
    """Add a row of int8 weights times an int8 payload to the sums; 16 bits hold the products."""
    size = types.intp

    def instructions(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, weights = (
            builder.gep(
                context.make_array(signature.args[i])(context, builder, arguments[i]).data,
                [arguments[i + 1]],
            )
            for i in (0, 2)
        )
        wide = context.get_data_type(signature.args[0].dtype)
        factor = builder.trunc(arguments[4], ir.IntType(16))

        def emit(place: Any, lanes: int) -> None:
            kind = ir.VectorType(ir.IntType(16), lanes)
            row = builder.sext(_emit_row(builder, builder.gep(weights, [place]), lanes), kind)
            product = builder.mul(row, _spread(builder, factor, kind))
            _emit_addition(builder, builder.gep(sums, [place]), product, wide)

        _emit_lanes(builder, arguments[5], emit)
        return context.get_dummy_value()

    return types.void(total, size, weight, size, size, size), instructions


def advancer(leaks: bool) -> Callable[..., Any]:
    """Return the instructions that advance neurons, eight at a time."""

    @intrinsic  # type: ignore[misc, unused-ignore]
    def advance(
        typing: Any, v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any,
        exponent: Any, keep: Any,
    ) -> Any:  # fmt: skip
        number = v.dtype
        result: Any = types.UniTuple(number, 2)  # type: ignore[no-untyped-call]
        signature = result(
            v, total, arriving, v_fire, v_threshold, bits, types.intp, types.intp
        )  # fmt: skip

        def instructions(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = [
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args[:6], arguments[:6], strict=True)
            ]
            exponent, keep = (
                context.cast(builder, value, types.intp, number) for value in arguments[6:]
            )
            count = builder.extract_value(arrays[0].shape, 0)
            extremes = _emit_advance(
                builder, [array.data for array in arrays],
                context.get_data_type(signature.args[1].dtype), count, exponent,
                keep if leaks else None,
            )  # fmt: skip
            return context.make_tuple(builder, result, extremes)

        return signature, instructions

    neurons: Callable[..., Any] = advance
    return neurons


def _emit_advance(
    builder: Any, arrays: list[Any], total_type: Any, count: Any, exponent: Any, keep: Any
) -> list[Any]:
    """Emit a loop over the neurons; return the values of the smallest and the largest u."""
    lanes, size, number = 8, count.type, exponent.type
    vector = ir.VectorType(number, lanes)
    zero = ir.Constant(vector, None)
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("neurons", "advanced"))
    builder.branch(loop)
    builder.position_at_end(loop)
    place, low, high = builder.phi(size), builder.phi(vector), builder.phi(vector)
    for phi, start in ((place, ir.Constant(size, 0)), (low, zero), (high, zero)):
        phi.add_incoming(start, before)

    def pointer(index: int) -> Any:
        element = builder.gep(arrays[index], [place])
        kind = total_type if index == 1 else number
        return builder.bitcast(element, ir.VectorType(kind, lanes).as_pointer())

    v, total, arriving, fire, threshold = (
        builder.load(pointer(index), align=1) for index in range(5)
    )
    if keep is not None:
        v = _emit_leak(builder, v, _spread(builder, keep, vector))
    wide = total if total.type == vector else builder.sext(total, vector)
    u = builder.add(builder.add(v, arriving), builder.shl(wide, _spread(builder, exponent, vector)))
    fired = builder.icmp_signed(">=", u, fire)
    builder.store(
        builder.sub(u, builder.select(fired, threshold, zero)), pointer(0), align=1
    )  # fmt: skip
    builder.store(ir.Constant(total.type, None), pointer(1), align=1)
    flags = builder.bitcast(fired, ir.IntType(lanes))
    builder.store(flags, builder.gep(arrays[5], [builder.lshr(place, ir.Constant(size, 3))]))
    lower = builder.select(builder.icmp_signed("<", u, low), u, low)
    higher = builder.select(builder.icmp_signed(">", u, high), u, high)
    following = builder.add(place, ir.Constant(size, lanes))
    for phi, value in ((place, following), (low, lower), (high, higher)):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return [_emit_extreme(builder, lower, "<"), _emit_extreme(builder, higher, ">")]


def _emit_leak(builder: Any, v: Any, keep: Any) -> Any:
    """Emit ``trunc(v * keep / 4096)``, in two parts."""
    zero = ir.Constant(v.type, None)
    shift, mask = (ir.Constant(v.type, [value] * v.type.count) for value in (12, 4095))
    negative = builder.icmp_signed("<", v, zero)
    size = builder.select(negative, builder.sub(zero, v), v)
    upper = builder.mul(builder.lshr(size, shift), keep)
    lower = builder.mul(builder.and_(size, mask), keep)
    kept = builder.add(upper, builder.lshr(lower, shift))
    return builder.select(negative, builder.sub(zero, kept), kept)


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    """Emit a vector of which every lane is ``value``."""
    zero, lanes = ir.Constant(vector, None), ir.VectorType(ir.IntType(32), vector.count)
    first = builder.insert_element(zero, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, zero, ir.Constant(lanes, None))


def _emit_extreme(builder: Any, values: Any, order: str) -> Any:
    """Emit the search for the first of ``values`` in that order."""
    found, *others = (
        builder.extract_element(values, ir.Constant(ir.IntType(32), lane))
        for lane in range(values.type.count)
    )
    for other in others:
        found = builder.select(builder.icmp_signed(order, other, found), other, found)
    return found


@intrinsic  # type: ignore[misc, unused-ignore]
def load_word(typing: Any, bits: Any, at: Any) -> Any:
    def instructions(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(bits, types.intp), instructions


@intrinsic  # type: ignore[misc, unused-ignore]
def count_trailing_zeros(typing: Any, bits: Any) -> Any:
    def instructions(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), instructions
