"""Mistakes that raise an error: recognised by its type and message, and by the line of the student's code."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.shared import first_that_applies


@dataclass(frozen=True)
class ErrorCase:
    """An error that student code raised."""

    error: str  # "TypeError: …"
    line: str  # of the student's code: the last that ran


def _says(pattern: str, line: str = "") -> Callable[[ErrorCase], bool]:
    """Whether the error matches `pattern`, and the student's line contains `line`, both regular expressions."""
    return lambda case: bool(re.match(pattern, case.error) and re.search(line, case.line))


# More special ones first. The messages are those of PyTorch, Python 3.11 to 3.14, and this project's models.
EXCEPTIONS = (
    # --- drawing ---
    Mistake(
        "no probabilities",
        "torch.multinomial wants probabilities; logits and log-probabilities are negative, too. What makes the one of "
        "the other?",
        (_says("RuntimeError: probability tensor contains either"),),
    ),
    Mistake(
        "all probabilities zero",
        "all probabilities of a row are 0; were exponentials taken of very negative logits one by one?",
        (_says("RuntimeError: invalid multinomial distribution"),),
    ),
    Mistake(
        "draws at all positions",
        "torch.multinomial takes one distribution a row, (B, V); which position do you draw the token after?",
        (_says("RuntimeError: prob_dist must be 1 or 2 dim"),),
    ),
    Mistake(
        "number of draws missing",
        "torch.multinomial also wants to know how many tokens to draw in each row",
        (_says(r'TypeError: multinomial\(\) missing 1 required positional arguments: "num_samples"'),),
    ),
    Mistake(
        "categorical of others",
        "Categorical takes either probs= or logits=; what do you have?",
        (_says("ValueError: Expected parameter (probs|logits) .* of distribution Categorical"),),
    ),
    # --- what the model takes and returns ---
    Mistake(
        "past of another kind",
        "`past` is what the model itself returned in the call before, as it is; None where there was none",
        (
            _says("RuntimeError: Boolean value of Tensor with more than one value", r"past\s*="),
            _says("AttributeError: 'Tensor' object has no attribute 'append'", r"past\s*="),
        ),
    ),
    Mistake(
        "past of another batch",
        "the model's memory belongs to other texts than those it is given here; which call returned this `past`?",
        (_says("ValueError: past has batch size"),),
    ),
    Mistake(
        "text too long",
        "the model is given more tokens than it can look at; with `past`, it needs only those it has not seen yet",
        (
            _says("ValueError: the text has .* positions; give it a shorter text"),
            _says("ValueError: the text is longer than the model's"),
        ),
    ),
    Mistake(
        "text without batch",
        "the model takes token ids of shape (B, T): several texts, each a row; a single one is a row, too",
        (
            _says("ValueError: input_ids has shape"),
            _says(r"RuntimeError: permute\(", r"model\("),
            _says("IndexError: Dimension specified as -1 but tensor has no dimensions", r"model\("),
        ),
    ),
    Mistake(
        "tuple not unpacked",
        "a tuple is used as if it were a tensor; the model returns two things, (logits, past), so give each a name",
        (
            _says("AttributeError: 'tuple' object has no attribute"),
            _says(r"TypeError: .* must be Tensor, not tuple"),
            _says("TypeError: tuple indices must be integers or slices, not"),
            _says("TypeError: unsupported operand type.*'tuple'"),
        ),
    ),
    Mistake(
        "unpacked into other numbers",
        "there are more names on the left of = than values on its right, or fewer; the model returns two",
        (_says(r"ValueError: (not enough|too many) values to unpack"),),
    ),
    # --- gather and other indices ---
    Mistake(
        "index of floats",
        "an index must hold whole numbers, as token ids do (torch.long); where did they become floats?",
        (
            _says("RuntimeError: gather.*: Expected dtype int32/int64 for index"),
            _says("IndexError: tensors used as indices must be long"),
            _says("RuntimeError: Expected tensor for argument #1 'indices' to have one of"),
            _says("ValueError: input_ids must hold token ids of type int64"),
        ),
    ),
    Mistake(
        "index of fewer dimensions",
        "gather takes an index with as many dimensions as the tensor has; a last one of size 1 takes one value each",
        (_says("RuntimeError: Index tensor must have the same number of dimensions as input tensor"),),
    ),
    Mistake(
        "gathered along another dimension",
        "gather looks along another dimension than that of the vocabulary, where the token ids are counted",
        (_says("(RuntimeError|IndexError): index -?[0-9]+ is out of bounds for dimension", r"gather|take_along"),),
    ),
    Mistake(
        "as many predictions as tokens",
        "tensor and index have other sizes in the other dimensions; how many of the tokens are predicted at all?",
        (_says("RuntimeError: Size does not match at dimension [0-9]+ expected index"),),
    ),
    Mistake(
        "index out of bounds",
        "this dimension is smaller than the index; is it the one that you mean? Its size stands in the message",
        (_says("(RuntimeError|IndexError): index -?[0-9]+ is out of bounds for dimension"),),
    ),
    Mistake(
        "not in the vocabulary",
        "these token ids are not in the vocabulary; are they ids at all, or something else?",
        (
            _says("IndexError: index out of range in self"),
            _says("ValueError: input_ids holds ids outside of the vocabulary"),
        ),
    ),
    # --- shapes ---
    Mistake(
        "dimension too many",
        "the tensor has fewer dimensions than this line assumes; compare with its shape",
        (
            _says("IndexError: Dimension out of range"),
            _says("IndexError: too many indices for tensor"),
            _says("IndexError: invalid index of a 0-dim tensor"),
            _says("TypeError: (len|iteration)(\\(\\) of| over) a 0-d tensor"),
        ),
    ),
    Mistake(
        "joined with fewer dimensions",
        "torch.cat joins tensors with equally many dimensions; what is drawn for B prompts has the shape (B, 1)",
        (
            _says("RuntimeError: Tensors must have same number of dimensions"),
            _says("RuntimeError: zero-dimensional tensor .* cannot be concatenated"),
        ),
    ),
    Mistake(
        "joined along another dimension",
        "tensors that torch.cat joins may differ in size only along the dimension in which they are joined",
        (_says("RuntimeError: Sizes of tensors must match except in dimension"),),
    ),
    Mistake(
        "shapes do not combine",
        "tensors combine if each dimension, counted from the last, has equal sizes or a size of 1; unsqueeze adds one",
        (
            _says("RuntimeError: The size of tensor a .* must match the size of tensor b"),
            _says("RuntimeError: shape mismatch: value tensor of shape"),
            _says("RuntimeError: .* shapes cannot be multiplied"),
            _says("RuntimeError: shape .* is invalid for input of size"),
        ),
    ),
    Mistake(
        "cross entropy of other shapes",
        "cross_entropy and nll_loss want a row for each prediction, (N, V), and N targets, (N,)",
        (
            _says("RuntimeError: Expected target size"),
            _says("ValueError: Expected input batch_size"),
        ),
    ),
    Mistake(
        "several elements as a number",
        "a tensor with several elements is no number; should they be summed up, or one of them be chosen?",
        (
            _says("RuntimeError: a Tensor with [0-9]+ elements cannot be converted to Scalar"),
            _says("ValueError: only one element tensors can be converted"),
            _says("TypeError: only integer tensors of a single element"),
        ),
    ),
    Mistake(
        "truth of a tensor",
        "`if`, `and`, `or` and `not` want one True or False, not one for each element of a tensor",
        (_says("RuntimeError: Boolean value of Tensor with more than one value is ambiguous"),),
    ),
    # --- types and devices ---
    Mistake(
        "softmax of token ids",
        "this computes with token ids as with numbers; they are names of tokens. Is it the logits that you mean?",
        (
            _says('NotImplementedError: "[a-z_]*softmax[a-z_]*" not implemented for \'(Long|Int)'),
            _says(r"RuntimeError: (mean|softmax|log_softmax)\(\): could not infer output dtype"),
        ),
    ),
    Mistake(
        "other type of numbers",
        "float32 and float64 do not mix here; what you make yourself should have the type of what you are given",
        (
            _says("RuntimeError: expected .* to have the same dtype"),
            _says("RuntimeError: Index put requires the source and destination dtypes match"),
        ),
    ),
    Mistake(
        "other device",
        "name no device: what you make yourself should be on the device of the tensors that you are given",
        (
            _says("AssertionError: Torch not compiled with CUDA enabled"),
            _says("RuntimeError: (Found no NVIDIA driver|No CUDA GPUs are available)"),
            _says("RuntimeError: .*(expected device|all tensors to be on the same device)"),
        ),
    ),
    Mistake(
        "needs a gradient",
        "nothing is trained here, so no gradient is needed; where was it switched on?",
        (
            _says(r"RuntimeError: Can't call numpy\(\) on Tensor that requires grad"),
            _says("RuntimeError: Inplace update to inference tensor"),
        ),
    ),
    # --- Python ---
    Mistake(
        "not installed",
        "only the packages of requirements.txt are on Gradescope; your own files are imported as questions.NAME",
        (_says("ModuleNotFoundError: No module named '(?!src|questions|staff)"),),
    ),
    Mistake(
        "return missing",
        "the block of 6.6 ends without return; return the scaled logits",
        (_says("ValueError: temperature_horizon is 1, but must be 1 or 2"),),
    ),
    Mistake(
        "name of the result missing",
        "the block of 6.7 must leave its result in `scaled`, which the lines after it use",
        (_says(".*Error: .*'scaled'", r"= scaled$"),),
    ),
    Mistake(
        "import missing",
        "this module is not imported in this file; imports stand at its top",
        (_says("NameError: name '(torch|F|nn|np|numpy|math|random|copy|functools|itertools)' is not defined"),),
    ),
    Mistake(
        "no self",
        "these are functions, not methods of a class: there is no `self`, only the arguments",
        (_says("NameError: name 'self' is not defined"),),
    ),
    Mistake(
        "value before assignment",
        "a name to which a function assigns is its own from the first line on; here it is read before it has a value",
        (_says("UnboundLocalError:"),),
    ),
    Mistake(
        "name unknown",
        "nothing has this name here; is it spelled as above, among the arguments or in a line before?",
        (_says("NameError: name"),),
    ),
    Mistake(
        "config as a dict",
        "a config has attributes, as in config.n_ctx, with the names that stand in config.yml",
        (
            _says("TypeError: '[A-Za-z]*Config' object is not subscriptable"),
            _says("AttributeError: '[A-Za-z]*Config' object has no attribute"),
        ),
    ),
    Mistake(
        "value is None",
        "something here is None: the result of a function that lacks its `return`, or an argument that was left out",
        (
            _says("[A-Za-z]*Error: .*'?NoneType'?"),
        ),
    ),
    Mistake(
        "number as a tensor",
        "this is a plain number already; only tensors have such methods, and torch's functions take only tensors",
        (
            _says("AttributeError: '(int|float|bool)' object has no attribute"),
            _says("TypeError: .* must be Tensor, not (int|float|bool)"),
            _says("TypeError: expected Tensor as element .* but got (int|float|bool)"),
        ),
    ),
    Mistake(
        "list as a tensor",
        "a list is no tensor; torch.stack or torch.cat make one of a list of tensors",
        (
            _says("AttributeError: 'list' object has no attribute"),
            _says("TypeError: .* must be Tensor, not list"),
            _says("TypeError: unsupported operand type.*'list'"),
        ),
    ),
    Mistake(
        "dim missing",
        "say with dim= over which dimension; the probabilities of which numbers sum to 1?",
        (_says(r'TypeError: .* missing 1 required positional arguments: "dim"'),),
    ),
    Mistake(
        "arguments in another order",
        "the arguments stand in another order than this function takes them; names, as in dim=, say which is which",
        (_says("TypeError: .*argument 'dim' .* must be int, not Tensor"),),
    ),
    Mistake(
        "no such function",
        "a tensor or a module has nothing of this name; look it up in PyTorch's documentation",
        (_says("AttributeError: (module|'Tensor' object)"),),
    ),
    Mistake(
        "called, not indexed",
        "parentheses call a function, square brackets choose elements",
        (
            _says(r"TypeError: '(Tensor|torch\.Size|list|tuple)' object is not callable"),
            _says("TypeError: '(builtin_function_or_method|method|function)' object is not subscriptable"),
        ),
    ),
    Mistake(
        "other arguments",
        "compare this call with the first line of the function: how many arguments it takes, and their names",
        (_says("TypeError: .*(required positional argument|unexpected keyword argument|takes .* positional)"),),
    ),
    Mistake(
        "calls itself",
        "the function calls itself without end; is it another one that you mean?",
        (_says("RecursionError:"),),
    ),
    Mistake(
        "indentation",
        "the lines of a block begin in one column, that of its marks, with spaces and no tabs",
        (_says("(IndentationError|TabError)"),),
    ),
)  # fmt: skip


def diagnose_exception(error: str, line: str) -> Mistakes:
    """The mistake that explains why the student's `line` raised `error`, which is "Type: message"."""
    return first_that_applies(EXCEPTIONS, ErrorCase(error, line))
