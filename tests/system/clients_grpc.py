"""gRPC beyond Triton's synchronous client: typed contents, streams, large messages, health checks, reflection, and the asyncio clients."""
import asyncio

import grpc
import numpy as np
import tritonclient.grpc.aio
import tritonclient.http.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients_oip import f32, same, sample, sides
from harness import PATIENCE, until

CONTENTS = {"BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
            "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
SERVICES = {"inference.GRPCInferenceService", "grpc.health.v1.Health"}
METHODS = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStreamInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex"}


def refused(code, call, *args, words=(), **more):
    try:
        call(*args, timeout=PATIENCE, **more)
    except grpc.RpcError as error:
        assert error.code() == code and all(word in error.details() for word in words), f"{error.code()} {error.details()!r} where {code} {words} was expected"
        return
    raise AssertionError(f"not refused, expected {code}")


def typed(model, datatype, array, **more):
    contents = service_pb2.InferTensorContents(**{CONTENTS[datatype]: array.ravel().tolist()})
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=array.shape, contents=contents)
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], **more)


def check_typed(channel):
    """Typed requests have typed answers, and raw requests raw ones. FP16 and BF16 have no typed form."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for datatype in CONTENTS:
        given, model = sample(datatype), f"identity_{datatype.lower()}"
        answer = stub.ModelInfer(typed(model, datatype, given), timeout=PATIENCE)
        assert not answer.raw_output_contents and answer.outputs[0].datatype == datatype and list(answer.outputs[0].shape) == [2, 3], answer
        assert list(getattr(answer.outputs[0].contents, CONTENTS[datatype])) == given.ravel().tolist(), f"{datatype}: {answer}"
        raw = typed(model, datatype, given)
        raw.inputs[0].ClearField("contents")
        raw.raw_input_contents.append(b"".join(len(each).to_bytes(4, "little") + each for each in given.ravel()) if datatype == "BYTES" else given.tobytes())
        answer = stub.ModelInfer(raw, timeout=PATIENCE)
        assert list(answer.raw_output_contents) == list(raw.raw_input_contents) and not answer.outputs[0].HasField("contents"), f"{datatype}: {answer}"
    for datatype in ("FP16", "BF16"):
        tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[1, 1], contents=service_pb2.InferTensorContents(fp32_contents=[1]))
        refused(grpc.StatusCode.INVALID_ARGUMENT, stub.ModelInfer, service_pb2.ModelInferRequest(model_name=f"identity_{datatype.lower()}", inputs=[tensor]))
    given = f32([1, 2])
    both = typed("identity_fp32", "FP32", given)
    both.raw_input_contents.append(given.tobytes())
    short = typed("identity_fp32", "FP32", given)
    short.inputs[0].contents.fp32_contents.pop()
    truncated = typed("identity_fp32", "FP32", given)
    truncated.inputs[0].ClearField("contents")
    truncated.raw_input_contents.append(given.tobytes()[:-1])
    wrapped = typed("identity_int8", "INT8", np.array([[128]]))
    huge = typed("identity_fp32", "FP32", given)
    huge.inputs[0].shape[:] = [2**62, 8]
    negative = typed("identity_fp32", "FP32", given)
    negative.inputs[0].shape[:] = [-1, -2]
    faults = [both, short, truncated, wrapped, huge, negative]
    for fault in faults:
        refused(grpc.StatusCode.INVALID_ARGUMENT, stub.ModelInfer, fault)
    refused(grpc.StatusCode.NOT_FOUND, stub.ModelInfer, typed("nowhere", "FP32", given), words=["nowhere"])
    return f"{len(CONTENTS)} datatypes typed and raw, answered in kind; {len(faults) + 2} malformed messages are INVALID_ARGUMENT"


def check_stream(side):
    """The answers of a stream are in order, and a fault does not end the stream."""
    heard = []
    side.client.start_stream(lambda result, error: heard.append((result, error)))
    for number in range(8):
        width = 3 if number == 4 else 4
        side.client.async_stream_infer("add_sub", [side.put("a", f32([number] * width)), side.put("b", f32([1] * 4))], request_id=str(number))
    until(lambda: len(heard) == 8, "eight answers on the stream")
    side.client.stop_stream()
    for number, (result, error) in enumerate(heard):
        if number == 4:
            assert result is None and "a" in str(error), (result, error)
        else:
            assert error is None and result.get_response().id == str(number), (number, error)
            same(result.as_numpy("sum"), f32([number + 1] * 4), f"answer {number} of the stream")
    return "eight requests on one stream, the fifth a fault that does not end it"


def check_size(side):
    """Messages of server.max_body_bytes (16 MiB), which is more than the default limit of the gRPC libraries."""
    given = np.arange(3 << 20, dtype=np.float32).reshape(3, -1)
    same(side.infer("identity_fp32", {"x": given}).as_numpy("y"), given, "12 MiB")
    status = "StatusCode.RESOURCE_EXHAUSTED", "StatusCode.OUT_OF_RANGE", "StatusCode.INVALID_ARGUMENT"
    try:
        side.infer("identity_fp32", {"x": np.zeros((5, 1 << 20), np.float32)})
    except side.module.InferenceServerException as error:
        assert error.status() in status, error
    else:
        raise AssertionError("20 MiB are taken")
    assert side.client.is_server_live()
    return "a message of 12 MiB is taken, one of 20 MiB refused"


def check_asyncio(module, address):
    """Eight concurrent requests, of which only the invalid one fails."""
    async def ask():
        async with module.InferenceServerClient(address) as client:
            assert await client.is_server_ready() and await client.is_model_ready("add_sub", "1")

            def infer(number):
                given = f32([number] * (3 if number == 4 else 4))
                return client.infer("add_sub", [module.InferInput(name, list(given.shape), "FP32").set_data_from_numpy(given) for name in ("a", "b")])

            return await asyncio.gather(*(infer(number) for number in range(8)), return_exceptions=True)

    for number, answer in enumerate(asyncio.run(ask())):
        if number == 4:
            assert type(answer).__name__ == "InferenceServerException" and "a" in answer.message(), answer
        else:
            same(answer.as_numpy("sum"), f32([2 * number] * 4), f"answer {number}")
    return "eight requests at once, one of them a fault"


def check_health(channel, model):
    """The health checks of grpc_health_probe and Kubernetes."""
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", model):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, (service, answer)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING, service
        watch.cancel()
    refused(grpc.StatusCode.NOT_FOUND, stub.Check, health_pb2.HealthCheckRequest(service="nowhere"))
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="nowhere"), timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()
    return f"the server and {model} are SERVING, another name is NOT_FOUND"


def check_watch(channel, model, admin):
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=model), timeout=PATIENCE)
    seen = [next(watch).status]
    with tritonclient.http.InferenceServerClient(admin.removeprefix("http://")) as client:
        client.unload_model(model)
        seen.append(next(watch).status)
        client.load_model(model)
        seen.append(next(watch).status)
    watch.cancel()
    names = [health_pb2.HealthCheckResponse.ServingStatus.Name(each) for each in seen]
    assert names[0] == names[2] == "SERVING" and names[1] in ("NOT_SERVING", "SERVICE_UNKNOWN"), names
    return f"a watcher of {model} sees {', '.join(names)} as it is unloaded and loaded"


def check_reflection(channel):
    """The first requests of grpcurl and grpcui, in the old and the new version of reflection."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert SERVICES <= services, services
    described = database.FindFileContainingSymbol("inference.GRPCInferenceService")
    methods = {method.name for service in described.service for method in service.method}
    assert METHODS <= methods, methods
    # v1 has the same messages under another name
    ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", reflection_pb2.ServerReflectionRequest.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString)
    answer = next(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=PATIENCE))
    assert SERVICES <= {each.name for each in answer.list_services_response.service}, answer
    return f"v1alpha and v1 list {len(services)} services"


def check_unimplemented(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    calls = [(stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="scalar")), (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="scalar")),
             (stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()), (stub.CudaSharedMemoryStatus, service_pb2.CudaSharedMemoryStatusRequest()),
             (stub.TraceSetting, service_pb2.TraceSettingRequest()), (stub.LogSettings, service_pb2.LogSettingsRequest())]
    for call, request in calls:
        refused(grpc.StatusCode.UNIMPLEMENTED, call, request)
    return f"{len(calls)} calls that predictd does not offer are UNIMPLEMENTED"


def checks(running, bare):
    """(name of the client, check, its arguments), for a server over models/ and one over the bare repository of harness.py."""
    with grpc.insecure_channel(running.grpc) as channel:
        yield "grpc_health.v1", check_health, channel, "churn"
    with grpc.insecure_channel(bare.grpc) as channel:
        yield "grpc_health.v1", check_health, channel, "scalar"
        yield "grpc_health.v1", check_watch, channel, "scalar", bare.admin
        yield "reflection", check_reflection, channel
        yield "gRPC", check_typed, channel
        yield "gRPC", check_unimplemented, channel
    side = sides(bare)[1]
    yield side.name, check_stream, side
    yield side.name, check_size, side
    yield "tritonclient.http.aio", check_asyncio, tritonclient.http.aio, bare.address
    yield "tritonclient.grpc.aio", check_asyncio, tritonclient.grpc.aio, bare.grpc
