"""What is unrolled: problems, the structure that they declare, windows, whole episodes, the inner step."""

from meta_train.unroll import episodes as episodes
from meta_train.unroll import truncation as truncation
from meta_train.unroll.inner_step import InnerStep as InnerStep
from meta_train.unroll.inner_step import inner_step as inner_step
from meta_train.unroll.problem import Bilevel as Bilevel
from meta_train.unroll.problem import BilevelLossFn as BilevelLossFn
from meta_train.unroll.problem import Flow as Flow
from meta_train.unroll.problem import FlowFieldFn as FlowFieldFn
from meta_train.unroll.problem import Momentum as Momentum
from meta_train.unroll.problem import ParamsInitFn as ParamsInitFn
from meta_train.unroll.problem import Problem as Problem
from meta_train.unroll.problem import ProblemInitFn as ProblemInitFn
from meta_train.unroll.problem import ProblemStepFn as ProblemStepFn
from meta_train.unroll.problem import RatesFn as RatesFn
from meta_train.unroll.problem import SampleFn as SampleFn
