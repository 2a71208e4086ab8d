// An emulated CUDA driver: libcuda.so.1 over the host's memory, for tests without a GPU.
//
// Device memory is host memory, a stream is a thread that works off a queue after random delays, and calls that
// CUDA forbids are recorded as violations: no current context, a handle that was destroyed, an asynchronous copy
// of memory that is not page-locked, memory given back while submitted work uses it, a context released with
// things in it. Speed, kernels and TensorRT are not emulated; tests submit host functions (`emulated_launch`).
//
// Environment: EMULATED_GPUS (number, default 2), EMULATED_GPU_MIB (memory of each, default 4096),
// EMULATED_GPU_DELAY_US (longest delay of submitted work, default 200), EMULATED_CUDA_VERSION (default 13000).

#include <dlfcn.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

enum Code {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  CONTEXT_IS_DESTROYED = 709,
};

using Address = unsigned long long;
using Lock = std::unique_lock<std::recursive_mutex>;

long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value ? atol(value) : otherwise;
}

std::recursive_mutex state;  // guards all that follows but the queues of streams
std::vector<std::string> violations;

void violate(const std::string &what) {
  Lock lock(state);
  violations.push_back(what);
}

struct Context {
  int device;
  int references = 0;
  unsigned flags = 0;
};

struct Block {
  size_t size;
  Context *context;
  bool pinned;
};

struct Span {
  uintptr_t start;
  size_t size;
  bool meets(const Span &other) const {
    return start < other.start + other.size && other.start < start + size;
  }
};

struct Work {
  std::function<void()> run;
  std::vector<Span> uses;
};

class Stream {
 public:
  explicit Stream(Context *owner) : context(owner), thread([this] { work(); }) {}

  void submit(Work next) {
    std::lock_guard<std::mutex> lock(mutex);
    queue.push_back(std::move(next));
    changed.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return queue.empty(); });
  }

  bool is_idle() {
    std::lock_guard<std::mutex> lock(mutex);
    return queue.empty();
  }

  bool uses(const Span &span) {
    std::lock_guard<std::mutex> lock(mutex);
    for (const Work &each : queue)
      for (const Span &used : each.uses)
        if (used.meets(span)) return true;
    return false;
  }

  void stop() {
    wait();
    {
      std::lock_guard<std::mutex> lock(mutex);
      ended = true;
      changed.notify_all();
    }
    thread.join();
  }

  Context *const context;

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return ended || !queue.empty(); });
      if (queue.empty()) return;
      auto run = queue.front().run;  // the entry stays until it is done, for `uses` and `wait`
      lock.unlock();
      const long longest = setting("EMULATED_GPU_DELAY_US", 200);
      if (longest) usleep(static_cast<unsigned>(rand() % longest));
      run();
      lock.lock();
      queue.pop_front();
      changed.notify_all();
    }
  }

  std::deque<Work> queue;
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  std::thread thread;
};

struct Event {
  std::mutex mutex;
  std::condition_variable changed;
  unsigned long recorded = 0, done = 0;

  void wait_for(unsigned long number) {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return done >= number; });
  }
};

std::map<uintptr_t, Block> blocks;
std::set<Stream *> streams;
std::map<void *, std::shared_ptr<Event>> events;
std::map<int, Context> primaries;
std::set<Context *> others;
std::map<Context *, Stream *> default_streams;
thread_local std::vector<Context *> stack;

bool is_alive(Context *context) {
  Lock lock(state);
  if (others.count(context)) return true;
  for (auto &[device, primary] : primaries)
    if (&primary == context) return primary.references > 0;
  return false;
}

Context *current() { return stack.empty() ? nullptr : stack.back(); }

int require_context(const char *function) {
  if (!current()) {
    violate(std::string(function) + ": no context is current in this thread");
    return INVALID_CONTEXT;
  }
  if (!is_alive(current())) {
    violate(std::string(function) + ": the current context was destroyed");
    return CONTEXT_IS_DESTROYED;
  }
  return SUCCESS;
}

#define REQUIRE_CONTEXT() \
  if (int code = require_context(__func__)) return code

Stream *default_stream() {
  Lock lock(state);
  Stream *&found = default_streams[current()];
  if (!found) found = new Stream(current());
  return found;
}

Stream *stream_of(void *handle, const char *function) {
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return default_stream();  // 1 and 2 are its legacy names
  Lock lock(state);
  auto *stream = static_cast<Stream *>(handle);
  if (!streams.count(stream)) {
    violate(std::string(function) + ": the stream was destroyed");
    return nullptr;
  }
  if (stream->context != current()) violate(std::string(function) + ": a stream of another context");
  return stream;
}

std::shared_ptr<Event> event_of(void *handle, const char *function) {
  Lock lock(state);
  auto found = events.find(handle);
  if (found != events.end()) return found->second;
  violate(std::string(function) + ": the event was destroyed");
  return nullptr;
}

bool lies_in(const Span &span, bool pinned) {
  Lock lock(state);
  auto after = blocks.upper_bound(span.start);
  if (after == blocks.begin()) return false;
  const auto &[start, block] = *--after;
  return block.pinned == pinned && span.start + span.size <= start + block.size;
}

bool on_device(const Span &span, const char *function) {
  if (lies_in(span, false) || lies_in(span, true)) return true;
  violate(std::string(function) + ": " + std::to_string(span.size) + " bytes are no memory of the GPU");
  return false;
}

std::vector<Stream *> all_streams() {
  Lock lock(state);
  std::vector<Stream *> found(streams.begin(), streams.end());
  for (auto &[context, stream] : default_streams) found.push_back(stream);
  return found;
}

int take(uintptr_t *address, size_t size, bool pinned) {
  if (!size) return INVALID_VALUE;
  Lock lock(state);
  size_t used = size;
  for (auto &[start, block] : blocks)
    if (!block.pinned && block.context == current()) used += block.size;
  if (!pinned && used > static_cast<size_t>(setting("EMULATED_GPU_MIB", 4096)) << 20) return OUT_OF_MEMORY;
  void *memory = nullptr;
  if (posix_memalign(&memory, 512, size)) return OUT_OF_MEMORY;
  memset(memory, 0xCD, size);  // its content is undefined
  *address = reinterpret_cast<uintptr_t>(memory);
  blocks[*address] = {size, current(), pinned};
  return SUCCESS;
}

int give(uintptr_t address, bool pinned, const char *function) {
  Lock lock(state);
  auto found = blocks.find(address);
  if (found == blocks.end() || found->second.pinned != pinned) {
    violate(std::string(function) + ": no such memory");
    return INVALID_VALUE;
  }
  const Span span{address, found->second.size};
  if (found->second.context != current()) violate(std::string(function) + ": memory of another context");
  for (Stream *stream : all_streams())
    if (stream->uses(span)) violate(std::string(function) + ": submitted work still uses the memory");
  memset(reinterpret_cast<void *>(address), 0xDD, span.size);  // and never used again: late reads show it
  blocks.erase(found);
  return SUCCESS;
}

void submit_copy(Stream *stream, uintptr_t target, uintptr_t source, size_t size) {
  auto run = [=] { memmove(reinterpret_cast<void *>(target), reinterpret_cast<void *>(source), size); };
  stream->submit({run, {{target, size}, {source, size}}});
}

/* From memory that is not page-locked the driver copies the bytes aside before the call returns. */
void submit_staged(Stream *stream, uintptr_t target, const void *source, size_t size) {
  auto bytes = std::make_shared<std::vector<char>>(static_cast<const char *>(source),
                                                   static_cast<const char *>(source) + size);
  auto run = [=] { memcpy(reinterpret_cast<void *>(target), bytes->data(), size); };
  stream->submit({run, {{target, size}}});
}

uintptr_t number(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); }

struct Copy2D {  // CUDA_MEMCPY2D
  size_t source_x, source_y;
  unsigned source_kind;
  const void *source_host;
  Address source_device;
  void *source_array;
  size_t source_pitch;
  size_t target_x, target_y;
  unsigned target_kind;
  void *target_host;
  Address target_device;
  void *target_array;
  size_t target_pitch;
  size_t width, height;
};

void submit_2d(Stream *stream, const Copy2D &copy) {
  const unsigned host = 1;
  const uintptr_t from = (copy.source_kind == host ? number(copy.source_host) : copy.source_device) +
                         copy.source_y * copy.source_pitch + copy.source_x;
  const uintptr_t to = (copy.target_kind == host ? number(copy.target_host) : copy.target_device) +
                       copy.target_y * copy.target_pitch + copy.target_x;
  auto run = [=] {
    for (size_t row = 0; row < copy.height; row++)
      memcpy(reinterpret_cast<void *>(to + row * copy.target_pitch),
             reinterpret_cast<void *>(from + row * copy.source_pitch), copy.width);
  };
  const size_t rows = copy.height ? copy.height - 1 : 0;
  stream->submit({run,
                  {{to, rows * copy.target_pitch + copy.width}, {from, rows * copy.source_pitch + copy.width}}});
}

void check_leaks(Context *context, const char *function) {
  size_t memory = 0, pinned = 0, live_streams = 0;
  for (auto &[start, block] : blocks)
    if (block.context == context) (block.pinned ? pinned : memory)++;
  for (Stream *stream : streams) live_streams += stream->context == context;
  if (memory + pinned + live_streams)
    violate(std::string(function) + ": " + std::to_string(memory) + " blocks of memory, " +
            std::to_string(pinned) + " page-locked and " + std::to_string(live_streams) +
            " streams are left in the context");
  for (Context *each : stack)
    if (each == context) violate(std::string(function) + ": the context is on this thread's stack");
}

}  // namespace

extern "C" {

// --- for tests ---------------------------------------------------------------------------------------

int emulated_num_violations() {
  Lock lock(state);
  return static_cast<int>(violations.size());
}

const char *emulated_violation(int index) {
  Lock lock(state);
  return violations.at(static_cast<size_t>(index)).c_str();
}

void emulated_violate(const char *what) { violate(what); }

/* Blocks of device memory, page-locked blocks, streams, events and retained primary contexts there are. */
void emulated_live(long counts[5]) {
  Lock lock(state);
  memset(counts, 0, 5 * sizeof(long));
  for (auto &[start, block] : blocks) counts[block.pinned ? 1 : 0]++;
  counts[2] = static_cast<long>(streams.size());
  counts[3] = static_cast<long>(events.size());
  for (auto &[device, primary] : primaries) counts[4] += primary.references;
}

/* Submit a host function, in the place of a kernel. */
int emulated_launch(void *handle, void (*function)(void *), void *argument) {
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  stream->submit({[=] { function(argument); }, {}});
  return SUCCESS;
}

// --- devices and contexts ----------------------------------------------------------------------------

int cuInit(unsigned) { return setting("EMULATED_GPUS", 2) ? SUCCESS : NO_DEVICE; }

int cuDriverGetVersion(int *version) {
  *version = static_cast<int>(setting("EMULATED_CUDA_VERSION", 13000));
  return SUCCESS;
}

int cuDeviceGetCount(int *count) {
  *count = static_cast<int>(setting("EMULATED_GPUS", 2));
  return SUCCESS;
}

int cuDeviceGet(int *device, int index) {
  *device = index;
  return index >= 0 && index < setting("EMULATED_GPUS", 2) ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char *name, int size, int device) {
  snprintf(name, static_cast<size_t>(size), "Emulated GPU %d", device);
  return SUCCESS;
}

int cuDeviceComputeCapability(int *major, int *minor, int) {
  *major = 9;
  *minor = 0;
  return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *size, int) {
  *size = static_cast<size_t>(setting("EMULATED_GPU_MIB", 4096)) << 20;
  return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int) {
  const int texture_alignment = 14, major = 75, minor = 76;
  *value = attribute == major ? 9 : attribute == minor ? 0 : attribute == texture_alignment ? 512 : 1;
  return SUCCESS;
}

int cuDeviceGetPCIBusId(char *id, int size, int device) {
  snprintf(id, static_cast<size_t>(size), "0000:%02x:00.0", device);
  return SUCCESS;
}

int cuDevicePrimaryCtxRetain(Context **context, int device) {
  Lock lock(state);
  Context &primary = primaries.try_emplace(device, Context{device}).first->second;
  primary.references++;
  *context = &primary;
  return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  Lock lock(state);
  auto found = primaries.find(device);
  if (found == primaries.end() || !found->second.references) {
    violate("cuDevicePrimaryCtxRelease: the context is not retained");
    return INVALID_CONTEXT;
  }
  if (--found->second.references == 0) check_leaks(&found->second, "cuDevicePrimaryCtxRelease");
  return SUCCESS;
}

int cuDevicePrimaryCtxRelease(int device) { return cuDevicePrimaryCtxRelease_v2(device); }

int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  Lock lock(state);
  primaries.try_emplace(device, Context{device}).first->second.flags = flags;
  return SUCCESS;
}

int cuDevicePrimaryCtxSetFlags(int device, unsigned flags) {
  return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  Lock lock(state);
  auto found = primaries.find(device);
  *flags = found == primaries.end() ? 0 : found->second.flags;
  *active = found != primaries.end() && found->second.references > 0;
  return SUCCESS;
}

int cuCtxCreate_v2(Context **context, unsigned flags, int device) {
  Lock lock(state);
  *context = new Context{device, 1, flags};
  others.insert(*context);
  stack.push_back(*context);
  return SUCCESS;
}

int cuCtxDestroy_v2(Context *context) {
  Lock lock(state);
  if (!stack.empty() && stack.back() == context) stack.pop_back();
  check_leaks(context, "cuCtxDestroy");
  return others.erase(context) ? SUCCESS : INVALID_CONTEXT;
}

int cuCtxPushCurrent_v2(Context *context) {
  if (!is_alive(context)) {
    violate("cuCtxPushCurrent: the context was destroyed");
    return CONTEXT_IS_DESTROYED;
  }
  stack.push_back(context);
  return SUCCESS;
}

int cuCtxPopCurrent_v2(Context **context) {
  if (stack.empty()) {
    violate("cuCtxPopCurrent: no context is current in this thread");
    return INVALID_CONTEXT;
  }
  if (context) *context = stack.back();
  stack.pop_back();
  return SUCCESS;
}

int cuCtxGetCurrent(Context **context) {
  *context = current();
  return SUCCESS;
}

int cuCtxSetCurrent(Context *context) {
  if (!stack.empty()) stack.pop_back();
  if (context) stack.push_back(context);
  return SUCCESS;
}

int cuCtxGetDevice(int *device) {
  REQUIRE_CONTEXT();
  *device = current()->device;
  return SUCCESS;
}

int cuCtxSynchronize() {
  REQUIRE_CONTEXT();
  for (Stream *stream : all_streams())
    if (stream->context == current()) stream->wait();
  return SUCCESS;
}

int cuCtxSetLimit(int, size_t) { return SUCCESS; }

// --- memory ------------------------------------------------------------------------------------------

int cuMemAlloc_v2(Address *address, size_t size) {
  REQUIRE_CONTEXT();
  uintptr_t taken = 0;
  const int code = take(&taken, size, false);
  if (!code) *address = taken;
  return code;
}

int cuMemAllocPitch_v2(Address *address, size_t *pitch, size_t width, size_t height, unsigned) {
  *pitch = (width + 511) / 512 * 512;
  return cuMemAlloc_v2(address, *pitch * height);
}

int cuMemFree_v2(Address address) {
  REQUIRE_CONTEXT();
  for (Stream *stream : all_streams()) stream->wait();  // as the real one does
  return give(address, false, __func__);
}

int cuMemHostAlloc(void **memory, size_t size, unsigned) {
  REQUIRE_CONTEXT();
  uintptr_t taken = 0;
  const int code = take(&taken, size, true);
  if (!code) *memory = reinterpret_cast<void *>(taken);
  return code;
}

int cuMemAllocHost_v2(void **memory, size_t size) { return cuMemHostAlloc(memory, size, 0); }

int cuMemFreeHost(void *memory) {
  REQUIRE_CONTEXT();
  return give(number(memory), true, __func__);
}

int cuMemGetInfo_v2(size_t *available, size_t *total) {
  REQUIRE_CONTEXT();
  cuDeviceTotalMem_v2(total, 0);
  *available = *total / 2;
  return SUCCESS;
}

// --- copies ------------------------------------------------------------------------------------------

int cuMemcpyHtoD_v2(Address target, const void *source, size_t size) {
  REQUIRE_CONTEXT();
  if (!on_device({target, size}, __func__)) return INVALID_VALUE;
  submit_staged(default_stream(), target, source, size);  // may return before the bytes are there
  return SUCCESS;
}

int cuMemcpyDtoH_v2(void *target, Address source, size_t size) {
  REQUIRE_CONTEXT();
  if (!on_device({source, size}, __func__)) return INVALID_VALUE;
  submit_copy(default_stream(), number(target), source, size);
  default_stream()->wait();
  return SUCCESS;
}

int cuMemcpyDtoDAsync_v2(Address target, Address source, size_t size, void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  if (!on_device({target, size}, __func__) || !on_device({source, size}, __func__)) return INVALID_VALUE;
  submit_copy(stream, target, source, size);
  return SUCCESS;
}

int cuMemcpyDtoD_v2(Address target, Address source, size_t size) {
  return cuMemcpyDtoDAsync_v2(target, source, size, nullptr);
}

int cuMemcpyHtoDAsync_v2(Address target, const void *source, size_t size, void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  if (!on_device({target, size}, __func__)) return INVALID_VALUE;
  if (lies_in({number(source), size}, true)) {
    submit_copy(stream, target, number(source), size);
  } else {
    violate("cuMemcpyHtoDAsync: the source is not page-locked");
    submit_staged(stream, target, source, size);
  }
  return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *target, Address source, size_t size, void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  if (!on_device({source, size}, __func__)) return INVALID_VALUE;
  if (!lies_in({number(target), size}, true)) violate("cuMemcpyDtoHAsync: the target is not page-locked");
  submit_copy(stream, number(target), source, size);
  return SUCCESS;
}

int cuMemcpy2DAsync_v2(const Copy2D *copy, void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  submit_2d(stream, *copy);
  return SUCCESS;
}

int cuMemcpy2D_v2(const Copy2D *copy) {
  REQUIRE_CONTEXT();
  submit_2d(default_stream(), *copy);
  default_stream()->wait();
  return SUCCESS;
}

// --- streams and events ------------------------------------------------------------------------------

int cuStreamCreate(void **handle, unsigned) {
  REQUIRE_CONTEXT();
  Lock lock(state);
  auto *stream = new Stream(current());
  streams.insert(stream);
  *handle = stream;
  return SUCCESS;
}

int cuStreamDestroy_v2(void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  stream->stop();
  Lock lock(state);
  streams.erase(stream);  // and never freed: its address does not come back
  return SUCCESS;
}

int cuStreamSynchronize(void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  stream->wait();
  return SUCCESS;
}

int cuStreamQuery(void *handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(handle, __func__);
  if (!stream) return INVALID_HANDLE;
  return stream->is_idle() ? SUCCESS : NOT_READY;
}

int cuEventCreate(void **handle, unsigned) {
  REQUIRE_CONTEXT();
  Lock lock(state);
  *handle = new char;  // never freed: a destroyed event's handle does not come back
  events[*handle] = std::make_shared<Event>();
  return SUCCESS;
}

int cuEventDestroy_v2(void *handle) {
  REQUIRE_CONTEXT();
  if (!event_of(handle, __func__)) return INVALID_HANDLE;
  Lock lock(state);
  events.erase(handle);
  return SUCCESS;
}

int cuEventRecord(void *handle, void *stream_handle) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(stream_handle, __func__);
  auto event = event_of(handle, __func__);
  if (!stream || !event) return INVALID_HANDLE;
  unsigned long mark;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    mark = ++event->recorded;
  }
  auto run = [event, mark] {
    std::lock_guard<std::mutex> lock(event->mutex);
    event->done = mark;
    event->changed.notify_all();
  };
  stream->submit({run, {}});
  return SUCCESS;
}

int cuEventSynchronize(void *handle) {
  REQUIRE_CONTEXT();
  auto event = event_of(handle, __func__);
  if (!event) return INVALID_HANDLE;
  unsigned long mark;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    mark = event->recorded;
  }
  event->wait_for(mark);
  return SUCCESS;
}

int cuEventQuery(void *handle) {
  auto event = event_of(handle, __func__);
  if (!event) return INVALID_HANDLE;
  std::lock_guard<std::mutex> lock(event->mutex);
  return event->done == event->recorded ? SUCCESS : NOT_READY;
}

int cuStreamWaitEvent(void *stream_handle, void *handle, unsigned) {
  REQUIRE_CONTEXT();
  Stream *stream = stream_of(stream_handle, __func__);
  auto event = event_of(handle, __func__);
  if (!stream || !event) return INVALID_HANDLE;
  unsigned long mark;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    mark = event->recorded;
  }
  stream->submit({[event, mark] { event->wait_for(mark); }, {}});
  return SUCCESS;
}

// --- names -------------------------------------------------------------------------------------------

int cuGetErrorString(int code, const char **text) {
  static const std::map<int, const char *> texts = {{SUCCESS, "no error"},
                                                    {INVALID_VALUE, "invalid argument"},
                                                    {OUT_OF_MEMORY, "out of memory"},
                                                    {NO_DEVICE, "no CUDA-capable device is detected"},
                                                    {INVALID_DEVICE, "invalid device ordinal"},
                                                    {INVALID_CONTEXT, "invalid device context"}};
  auto found = texts.find(code);
  *text = found == texts.end() ? "an error of the emulated driver" : found->second;
  return SUCCESS;
}

int cuGetErrorName(int code, const char **name) {
  *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code ? "CUDA_ERROR" : "CUDA_SUCCESS";
  return SUCCESS;
}

int cuGetProcAddress_v2(const char *name, void **function, int, uint64_t, int *status) {
  Dl_info self;
  dladdr(reinterpret_cast<void *>(&cuGetProcAddress_v2), &self);
  static void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  *function = dlsym(library, (std::string(name) + "_v2").c_str());
  if (!*function) *function = dlsym(library, name);
  if (status) *status = *function ? 0 : 1;
  return *function ? SUCCESS : NOT_FOUND;
}

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

}  // extern "C"
