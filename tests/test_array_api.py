"""The array API standard, 2025.12: every name with its signature, transcribed; what other libraries do with it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.autograd.tape import no_grad
from eagerconv.func.gradcheck import check_grads
from eagerconv.tensor import Tensor, asarray, tensor

# As in the standard: positional-only before the slash, keyword-only behind the star.
SIGNATURES = """
abs(x,/) acos(x,/) acosh(x,/) add(x1,x2,/) asin(x,/) asinh(x,/) atan(x,/) atan2(x1,x2,/) atanh(x,/)
bitwise_and(x1,x2,/) bitwise_left_shift(x1,x2,/) bitwise_invert(x,/) bitwise_or(x1,x2,/) bitwise_right_shift(x1,x2,/)
bitwise_xor(x1,x2,/) ceil(x,/) clip(x,/,min,max) conj(x,/) copysign(x1,x2,/) cos(x,/) cosh(x,/) divide(x1,x2,/)
equal(x1,x2,/) exp(x,/) expm1(x,/) floor(x,/) floor_divide(x1,x2,/) greater(x1,x2,/) greater_equal(x1,x2,/)
hypot(x1,x2,/) imag(x,/) isfinite(x,/) isinf(x,/) isnan(x,/) less(x1,x2,/) less_equal(x1,x2,/) log(x,/) log1p(x,/)
log2(x,/) log10(x,/) logaddexp(x1,x2,/) logical_and(x1,x2,/) logical_not(x,/) logical_or(x1,x2,/) logical_xor(x1,x2,/)
maximum(x1,x2,/) minimum(x1,x2,/) multiply(x1,x2,/) negative(x,/) nextafter(x1,x2,/) not_equal(x1,x2,/) positive(x,/)
pow(x1,x2,/) real(x,/) reciprocal(x,/) remainder(x1,x2,/) round(x,/) sign(x,/) signbit(x,/) sin(x,/) sinh(x,/)
square(x,/) sqrt(x,/) subtract(x1,x2,/) tan(x,/) tanh(x,/) trunc(x,/)
arange(start,/,stop,step,*,dtype,device) asarray(obj,/,*,dtype,device,copy) empty(shape,*,dtype,device)
empty_like(x,/,*,dtype,device) eye(n_rows,n_cols,/,*,k,dtype,device) from_dlpack(x,/,*,device,copy)
full(shape,fill_value,*,dtype,device) full_like(x,/,fill_value,*,dtype,device)
linspace(start,stop,/,num,*,dtype,device,endpoint) meshgrid(*arrays,indexing) ones(shape,*,dtype,device)
ones_like(x,/,*,dtype,device) tril(x,/,*,k) triu(x,/,*,k) zeros(shape,*,dtype,device) zeros_like(x,/,*,dtype,device)
astype(x,dtype,/,*,copy,device) broadcast_arrays(*arrays) broadcast_shapes(*shapes)
broadcast_to(x,/,shape) can_cast(from_,to,/) finfo(type,/)
iinfo(type,/) isdtype(dtype,kind) result_type(*arrays_and_dtypes)
take(x,indices,/,*,axis) take_along_axis(x,indices,/,*,axis)
matmul(x1,x2,/) matrix_transpose(x,/) tensordot(x1,x2,/,*,axes) vecdot(x1,x2,/,*,axis)
concat(arrays,/,*,axis) expand_dims(x,/,axis) flip(x,/,*,axis) moveaxis(x,source,destination,/) permute_dims(x,/,axes)
repeat(x,repeats,/,*,axis) reshape(x,/,shape,*,copy) roll(x,/,shift,*,axis) squeeze(x,/,axis) stack(arrays,/,*,axis)
tile(x,repetitions,/) unstack(x,/,*,axis)
argmax(x,/,*,axis,keepdims) argmin(x,/,*,axis,keepdims) count_nonzero(x,/,*,axis,keepdims) nonzero(x,/)
searchsorted(x1,x2,/,*,side,sorter) where(condition,x1,x2,/)
isin(x1,x2,/,*,invert) unique_all(x,/) unique_counts(x,/) unique_inverse(x,/) unique_values(x,/)
argsort(x,/,*,axis,descending,stable) sort(x,/,*,axis,descending,stable)
cumulative_prod(x,/,*,axis,dtype,include_initial) cumulative_sum(x,/,*,axis,dtype,include_initial)
max(x,/,*,axis,keepdims) mean(x,/,*,axis,keepdims) min(x,/,*,axis,keepdims) prod(x,/,*,axis,dtype,keepdims)
std(x,/,*,axis,correction,keepdims) sum(x,/,*,axis,dtype,keepdims) var(x,/,*,axis,correction,keepdims)
all(x,/,*,axis,keepdims) any(x,/,*,axis,keepdims) diff(x,/,*,axis,n,prepend,append) __array_namespace_info__()
fft.fft(x,/,*,n,axis,norm) fft.ifft(x,/,*,n,axis,norm) fft.fftn(x,/,*,s,axes,norm) fft.ifftn(x,/,*,s,axes,norm)
fft.rfft(x,/,*,n,axis,norm) fft.irfft(x,/,*,n,axis,norm) fft.rfftn(x,/,*,s,axes,norm) fft.irfftn(x,/,*,s,axes,norm)
fft.hfft(x,/,*,n,axis,norm) fft.ihfft(x,/,*,n,axis,norm) fft.fftfreq(n,/,*,d,dtype,device)
fft.rfftfreq(n,/,*,d,dtype,device) fft.fftshift(x,/,*,axes) fft.ifftshift(x,/,*,axes)
linalg.cholesky(x,/,*,upper) linalg.cross(x1,x2,/,*,axis) linalg.det(x,/) linalg.diagonal(x,/,*,offset) linalg.eigh(x,/)
linalg.eig(x,/) linalg.eigvals(x,/)
linalg.eigvalsh(x,/) linalg.inv(x,/) linalg.matmul(x1,x2,/) linalg.matrix_norm(x,/,*,keepdims,ord)
linalg.matrix_power(x,n,/) linalg.matrix_rank(x,/,*,rtol) linalg.matrix_transpose(x,/) linalg.outer(x1,x2,/)
linalg.pinv(x,/,*,rtol) linalg.qr(x,/,*,mode) linalg.slogdet(x,/) linalg.solve(x1,x2,/) linalg.svd(x,/,*,full_matrices)
linalg.svdvals(x,/) linalg.tensordot(x1,x2,/,*,axes) linalg.trace(x,/,*,offset,dtype) linalg.vecdot(x1,x2,/,*,axis)
linalg.vector_norm(x,/,*,axis,keepdims,ord)
"""
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
METHODS = """
abs add and array_namespace bool complex dlpack dlpack_device eq float floordiv ge getitem gt index int invert le lshift
lt matmul mod mul ne neg or pos pow rshift setitem sub truediv xor
iadd isub imul itruediv ifloordiv ipow imod imatmul iand ior ixor ilshift irshift
radd rsub rmul rtruediv rfloordiv rpow rmod rmatmul rand ror rxor rlshift rrshift
"""


@pytest.mark.parametrize("signature", SIGNATURES.split())
def test_every_function_takes_what_the_standard_says(signature: str) -> None:
    """Each argument by position or by name, as the standard lets one write it; more arguments do no harm."""
    path, _, rest = signature.rstrip(")").partition("(")
    value: Any = ec
    for part in path.split("."):
        value = getattr(value, part)
    have = inspect.signature(value).parameters
    positional, _, keyword = rest.partition("*,") if "*," in rest else (rest, "", "")
    before, _, after = positional.partition("/") if "/" in positional else ("", "", positional)
    if rest.startswith("*"):  # as many as there are
        assert any(p.kind is p.VAR_POSITIONAL for p in have.values())
        names = rest.split(",")[1:]
    else:
        given = [name for name in before.split(",") if name]
        assert len([p for p in have.values() if p.kind is not p.KEYWORD_ONLY]) >= len(given)
        names = [name for name in f"{after},{keyword}".split(",") if name]
        ordered = [p.name for p in have.values() if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.POSITIONAL_ONLY]
        for place, name in enumerate((name for name in after.split(",") if name), start=len(given)):
            assert ordered[place] == name
    for name in names:
        assert have[name].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def test_tensor_has_every_method_and_attribute() -> None:
    for name in METHODS.split():
        assert hasattr(Tensor, f"__{name}__"), name
    for name in ("T", "device", "dtype", "mT", "ndim", "shape", "size", "to_device"):
        assert hasattr(Tensor, name), name


def test_dtypes_and_constants() -> None:
    for name in DTYPES.split():
        assert getattr(ec, name) is np.dtype(name)
        assert ec.ones(1, dtype=getattr(ec, name)).dtype is getattr(ec, name)
    assert (ec.pi, ec.e, ec.inf, ec.newaxis) == (np.pi, np.e, np.inf, None)
    assert np.isnan(ec.nan)
    assert ec.isdtype(ec.float32, "real floating")
    assert ec.isdtype(ec.int8, (ec.bool, "integral"))
    assert not ec.isdtype(ec.complex64, ("bool", "real floating"))
    with pytest.raises(ValueError, match="kind must be a dtype or one of bool, signed integer"):
        ec.isdtype(ec.int8, "float")
    assert ec.result_type(tensor([1.0], "float32"), 2.0) is ec.float32
    assert ec.finfo(tensor([1j])).dtype is ec.float64
    assert type(ec.finfo(ec.float32).eps) is float
    assert (ec.iinfo(ec.uint8).max, ec.finfo(ec.float64).bits) == (255, 64)


def test_namespace() -> None:
    x = tensor([1.0])
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2025.12") is ec
    assert ec.__array_api_version__ == "2025.12"
    with pytest.raises(ValueError, match=r"api_version must be one of 2021.12, .*, not '1999.12'"):
        x.__array_namespace__(api_version="1999.12")
    info = ec.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert info.dtypes(kind="real floating") == {"float32": ec.float32, "float64": ec.float64}
    assert info.default_dtypes()["real floating"] is ec.zeros(1).dtype
    assert x.to_device(x.device) is x
    with pytest.raises(ValueError, match="device must be one of 'cpu', 'cuda'"):
        x.to_device("cuda:7")


def test_what_2025_added() -> None:
    assert ec.isin(tensor([[1, 2], [3, 1]]), [1, 7]).tolist() == [[True, False], [False, True]]
    assert (ec.isin(2, tensor([1, 2])).item(), ec.isin(tensor([1, 2]), 2, invert=True).tolist()) == (
        True,
        [True, False],
    )
    assert (ec.broadcast_shapes((3, 1), (1, 4)), ec.broadcast_shapes()) == ((3, 4), ())
    with pytest.raises(ValueError, match="shape"):
        ec.broadcast_shapes((3,), (4,))
    for several in (ec.meshgrid([1], [2]), ec.broadcast_arrays([1], [2]), ec.__array_namespace_info__().devices()):
        assert type(several) is tuple
    assert ec.searchsorted(tensor([1, 3]), 2).item() == 1
    assert ec.expand_dims(tensor([1]), (0, -1)).shape == (1, 1, 1)
    assert ec.permute_dims(ec.ones((1, 2, 3)), (-1, 0, 1)).shape == (3, 1, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_eigenvalues_are_complex_whatever_they_are(dtype: str) -> None:
    a = np.array([[[2, 1], [0, 3]], [[0, 1], [-1, 0]]], dtype)  # of the first they are real
    for x in (a, a[:1]):
        values, vectors = ec.linalg.eig(x)
        assert values.dtype == vectors.dtype == ec.linalg.eigvals(x).dtype == np.result_type(dtype, "complex64")
        np.testing.assert_allclose((x @ vectors.data), vectors.data * values.data[:, None, :], atol=1e-6)
        np.testing.assert_allclose(ec.linalg.eigvals(x).data, values.data, atol=1e-6)
    if dtype == "float64":
        check_grads(lambda x: ec.abs(ec.linalg.eigvals(x)), [a], order=1)


def generic(x: Any) -> Any:
    """A function written for the standard, that knows no library."""
    xp = x.__array_namespace__()
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    spread = xp.sqrt(xp.vecdot(centred, centred, axis=-1))
    return xp.sum(xp.where(x > 0, xp.exp(-centred), xp.square(x)), axis=0) * xp.max(spread)


def test_generic_code_is_the_same_and_differentiable() -> None:
    a = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_allclose(generic(asarray(a)).data, generic(a), rtol=1e-15)
    check_grads(generic, (a,), order=2)


def test_scipys_array_api_functions_take_tensors_as_numpy_arrays() -> None:
    special = pytest.importorskip("scipy.special")
    x = tensor([0.5, 1.5])
    np.testing.assert_array_equal(special.gamma(x).data, special.gamma(x.numpy()))
    w = tensor([0.5, 1.5], requires_grad=True)
    with pytest.raises(NotImplementedError, match="struve has no derivative"):
        special.struve(1, w).sum().backward()


# ----- DLPack -----


def test_dlpack_shares_memory_both_ways() -> None:
    a = np.arange(3.0)
    x = ec.from_dlpack(a)
    if np.from_dlpack(a).flags.writeable:
        x += 1
        assert a.tolist() == [1, 2, 3]
    else:  # before NumPy 2.3
        with pytest.raises(ValueError, match="read-only"):
            x += 1
    assert np.shares_memory(np.from_dlpack(x), a)
    copied = ec.from_dlpack(a, copy=True)
    copied += 1
    assert copied.tolist() == (a + 1).tolist()
    assert np.shares_memory(ec.from_dlpack(a, copy=False, device="cpu").data, a)
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = tensor([1.0, 2.0]), torch.ones(2, dtype=torch.float64)
    torch.from_dlpack(ours).mul_(3)
    assert ours.tolist() == [3, 6]
    ec.from_dlpack(theirs)[0] = 7
    assert theirs.tolist() == [7, 1]


def test_dlpack_does_not_lose_a_gradient_unseen() -> None:
    w = tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="another library by DLPack, which would lose its history"):
        np.from_dlpack(w)
    assert np.from_dlpack(w.detach()).tolist() == [1]
    with no_grad():
        assert np.from_dlpack(w).tolist() == [1]


# ----- Where NumPy and the standard differ, or users of either would stumble -----


def test_copy_argument() -> None:
    a = np.arange(4.0)
    assert asarray(a, copy=False).data is a
    assert not np.shares_memory(asarray(a, copy=True).data, a)
    x = tensor(a, requires_grad=True)
    assert asarray(x, copy=True).requires_grad
    with pytest.raises(ValueError, match="copy"):
        asarray([1.0], copy=False)
    with pytest.raises(ValueError, match="float64 to float32 needs a copy"):
        asarray(x, "float32", copy=False)
    assert np.shares_memory(ec.reshape(a, (2, 2), copy=False).data, a)
    assert not np.shares_memory(ec.reshape(a, (2, 2), copy=True).data, a)
    with pytest.raises(ValueError, match="needs a copy of this tensor"):
        ec.reshape(np.ones((2, 2)).T, (4,), copy=False)
    assert ec.astype(x, ec.float64, copy=False) is x


@pytest.mark.parametrize("stable", [True, False])
def test_sorting_downwards_keeps_the_order_of_equal_elements(stable: bool) -> None:
    x = np.random.default_rng(0).integers(0, 4, (3, 20))
    values, order = ec.sort(x, axis=1, descending=True, stable=stable), ec.argsort(x, descending=True)
    expected = [sorted(range(20), key=lambda i, row=row: -row[i]) for row in x]
    assert order.tolist() == expected  # Python's sort is stable
    np.testing.assert_array_equal(values.data, -np.sort(-x, axis=1))
    assert ec.take_along_axis(x, order).tolist() == values.tolist()


def test_gradient_of_sort_and_take() -> None:
    a = np.random.default_rng(0).standard_normal((2, 5))
    check_grads(lambda x: ec.sort(x, descending=True), (a,))
    check_grads(lambda x: ec.take(x, [0, 0, 3], axis=1), (a,))


def test_correction_and_ddof_are_the_same() -> None:
    a = np.random.default_rng(0).standard_normal(7)
    assert ec.var(a, correction=1).item() == ec.var(a, ddof=1).item() == pytest.approx(a.var(ddof=1))
    assert ec.std(a, correction=1.5).item() == pytest.approx(np.sqrt(((a - a.mean()) ** 2).sum() / 5.5))


def test_help_tells_parameters_and_examples() -> None:
    for name in ("exp", "hypot", "sum", "roll", "zeros"):
        doc = inspect.getdoc(getattr(ec, name))
        assert doc is not None
        assert "Parameters\n----------" in doc
        assert "Returns\n-------" in doc
        assert f">>> {name}(" in doc
