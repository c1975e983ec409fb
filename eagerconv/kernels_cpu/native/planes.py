"""Whole planes read in place, for the algorithm `rows`: no copy, no padding, all of a small image in a few vectors.

Where source and result have equally long rows and no stride, result pixel p and tap t meet in source pixel p + offset[t],
counted through the whole plane; whether that is inside the image is a mask, the same for every plane. So a plane of 7 x 7
pixels is four vectors, and a tap is one masked load and one product for each.
"""

from __future__ import annotations

from typing import Any

from eagerconv.kernels_cpu.blocks import PLANE_TAPS
from eagerconv.kernels_cpu.native.emit import Emit, emits, switch
from eagerconv.kernels_cpu.native.loops import P, ceil_div
from eagerconv.kernels_cpu.native.products import add_outer
from eagerconv.kernels_cpu.native.simd import I64, Loop, Vectors
from eagerconv.kernels_cpu.native.vector import offset
from eagerconv.kernels_cpu.table import PLANES as at

MOST = 8  # vectors summed at once


def sum_plane(vectors: int) -> Emit:
    """Microkernel out[p] = sum over channels c, taps t of w[c, t] * source[c, p + offset[t]], where the mask of t allows it.

    `taps` holds offset[t] and the place of w[t], and `masks`, with rows of `masks_row`, the bits of each vector's mask.
    """

    def block(v: Vectors, out: Any, n: Any, source: Any, source_channel: Any, w: Any, w_channel: Any, channels: Any,
              taps: Any, n_taps: Any, masks: Any, masks_row: Any) -> None:  # fmt: skip
        b = v.builder
        with Loop(b, channels, [source, w, *[v.zeros] * vectors]) as channel:
            image, filters, *sums = channel.values
            with Loop(b, n_taps, [taps, masks, *sums]) as tap:
                entry, bits, *sums = tap.values
                pixels = v.at(image, b.load(entry))
                factor = v.broadcast(v.at(filters, b.load(v.at(entry, 1))))
                masks_at = ((v.mask(b.load(v.at(bits, q))), v.at(pixels, q * v.lanes)) for q in range(vectors))
                new = add_outer(v, sums, (v.masked_load(place, mask) for mask, place in masks_at), [factor])
                tap.next = [v.at(entry, 2), v.at(bits, masks_row), *new]
            channel.next = [v.at(image, source_channel), v.at(filters, w_channel), *tap.results[2:]]
        for q in range(vectors):
            v.store_below([(channel.results[2 + q], v.at(out, q * v.lanes))], b.sub(n, I64(q * v.lanes)))

    return block


def dot_planes(taps: int) -> Any:
    """Microkernel w[place[t]] = sum over images and pixels p of y[p] * x[p + offset[t]], where the mask of t allows it.

    `entries` holds offset[t] and place[t], and `masks` a row of bits for each vector, one for each tap.
    """

    def block(v: Vectors, w: Any, x: Any, x_image: Any, y: Any, y_image: Any, images: Any, n: Any, entries: Any,
              masks: Any, masks_row: Any) -> None:  # fmt: skip
        b = v.builder
        offsets = [b.load(v.at(entries, 2 * t)) for t in range(taps)]
        with Loop(b, images, [x, y, *[v.zeros] * taps]) as image:
            x_start, y_start, *sums = image.values
            with Loop(b, v.chunks(n), [x_start, y_start, n, masks, *sums]) as piece:
                x_at, y_at, left, bits, *sums = piece.values
                factor = v.masked_load(y_at, v.lanes_below(left))
                masks_at = (v.mask(b.load(v.at(bits, t))) for t in range(taps))
                seen = (v.masked_load(v.at(x_at, shift), mask) for shift, mask in zip(offsets, masks_at, strict=True))
                new = add_outer(v, sums, seen, [factor])
                left = b.sub(left, I64(v.lanes))
                piece.next = [v.at(x_at, v.lanes), v.at(y_at, v.lanes), left, v.at(bits, masks_row), *new]
            image.next = [v.at(x_start, x_image), v.at(y_start, y_image), *piece.results[4:]]
        for t, total in enumerate(image.results[2:]):
            b.store(v.sum(total), v.at(w, b.load(v.at(entries, 2 * t + 1))))

    return emits(block)


sum_vectors = emits(switch({vectors: sum_plane(vectors) for vectors in range(1, MOST + 1)}))


def images(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """The forward pass or the gradient with respect to inputs; a task is one channel of one image."""
    n, lanes, vectors = g[at.PIXELS], g[at.LANES], g[at.VECTORS]
    taps, masks = offset(g, at.LENGTH), offset(g, at.LENGTH + 2 * g[at.TAPS])
    pieces = ceil_div(vectors, MOST)
    per_image = g[at.GROUPS] * g[at.ROWS]
    image, channel = first // per_image, first % per_image
    group, m = channel // g[at.ROWS], channel % g[at.ROWS]
    for task in range(first, last):
        planes = offset(source, image * g[at.SOURCE] + group * g[at.CHANNELS] * g[at.SOURCE + 1])
        filters = offset(w, group * g[at.A_GROUP] + m * g[at.A_ROW])
        start = 0
        for piece in range(pieces):
            end = vectors * (piece + 1) // pieces
            p = start * lanes
            sum_vectors(end - start, offset(result, task * n + p), n - p, offset(planes, p), g[at.SOURCE + 1], filters,
                        g[at.A_CHANNEL], g[at.CHANNELS], taps, g[at.TAPS], offset(masks, start), vectors)  # fmt: skip
            start = end
        m += 1
        if m == g[at.ROWS]:
            m, group = 0, group + 1
            if group == g[at.GROUPS]:
                group, image = 0, image + 1


def weights(taps_at_once: int) -> Any:
    """The gradient with respect to weights; a task is one filter's one input channel."""
    block = dot_planes(taps_at_once)

    def kernel(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        n, n_taps = g[at.PIXELS], g[at.TAPS]
        taps, masks = offset(g, at.LENGTH), offset(g, at.LENGTH + 2 * n_taps)
        for task in range(first, last):
            f, c = task // g[at.CHANNELS], task % g[at.CHANNELS]
            xs = offset(x, (f // g[at.ROWS] * g[at.CHANNELS] + c) * g[at.SOURCE + 1])
            ys, to = offset(y, f * g[at.Y + 1]), offset(w, f * g[at.A_ROW] + c * g[at.A_CHANNEL])
            for start in range(0, n_taps, taps_at_once):
                t = min(start, n_taps - taps_at_once)
                block(to, xs, g[at.SOURCE], ys, g[at.Y], g[at.BATCH], n, offset(taps, 2 * t), offset(masks, t), n_taps)

    return kernel


globals().update({f"weights_{taps}": weights(taps) for taps in PLANE_TAPS})
