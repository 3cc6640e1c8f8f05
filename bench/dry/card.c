/* Stands in for the CUDA runtime and driver, so that torch finds a card of DRY_CARD_CAPABILITY ("9.0") where there is
 * none. Nothing is computed: tensors are fake, only streams, events and the card's properties are asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_runtime_api.h"

#define MEMORY ((size_t)80 << 30)
#define PRESENT(call) cudaError_t call { return cudaSuccess; }

static int capability(int part) {
    const char *text = getenv("DRY_CARD_CAPABILITY");
    int values[2] = {9, 0};
    if (text) sscanf(text, "%d.%d", &values[0], &values[1]);
    return values[part];
}

PRESENT(cudaDeviceSynchronize(void))
PRESENT(cudaGetLastError(void))
PRESENT(cudaPeekAtLastError(void))
PRESENT(cudaStreamSynchronize(cudaStream_t stream))
PRESENT(cudaStreamQuery(cudaStream_t stream))
PRESENT(cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags))
PRESENT(cudaEventRecord(cudaEvent_t event, cudaStream_t stream))
PRESENT(cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags))
PRESENT(cudaEventQuery(cudaEvent_t event))
PRESENT(cudaEventSynchronize(cudaEvent_t event))

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device ? cudaErrorInvalidDevice : cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = *total_bytes = MEMORY;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    *stream = calloc(1, 8);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

/* Under its name in the library: headers give it other parameters after `status` from release to release. */
cudaError_t no_capture(cudaStream_t stream, enum cudaStreamCaptureStatus *status) __asm__("cudaStreamGetCaptureInfo");
cudaError_t no_capture(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = calloc(1, 8);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    int major = capability(0);
    memset(found, 0, sizeof *found);
    strcpy(found->name, "no card");
    found->major = major;
    found->minor = capability(1);
    found->totalGlobalMem = MEMORY;
    found->multiProcessorCount = 108;
    found->warpSize = 32;
    found->maxThreadsPerBlock = 1024;
    found->maxThreadsPerMultiProcessor = 2048;
    found->regsPerMultiprocessor = 65536;
    found->sharedMemPerBlock = 48 << 10;
    found->sharedMemPerBlockOptin = (major >= 9 ? 227 : major == 8 ? 163 : 64) << 10;
    found->sharedMemPerMultiprocessor = found->sharedMemPerBlockOptin + (1 << 10);
    return cudaSuccess;
}

/* The driver, under the name that torch opens. */
int cuInit(unsigned flags) { return 0; }

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return 0;
}
