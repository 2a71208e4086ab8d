// An emulated NVDEC: libnvcuvid.so.1 over the emulated driver, for the decoder in FFmpeg.
//
// Nothing is decoded: the luma of a picture is FIRST_LUMA plus its number in decoding order, its chroma is grey,
// so that a test sees which picture it was given. As a real decoder does, it refuses more than 32 surfaces, and
// fills a mapped picture on the stream that the caller names. Violations go to the driver's list.

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

using Address = unsigned long long;

extern "C" {
int cuMemAlloc_v2(Address *, size_t);
int cuMemFree_v2(Address);
int cuCtxGetCurrent(void **);
int emulated_launch(void *, void (*)(void *), void *);
void emulated_violate(const char *);
}

namespace {

const unsigned long MOST_SURFACES = 32;
const int FIRST_LUMA = 16, NUM_LUMAS = 220, GREY = 128;

// The beginnings of NVDEC's structures, as far as they are read or written here.

struct Capabilities {
  int codec, chroma_format;
  unsigned bit_depth_minus_8, reserved[3];
  unsigned char is_supported, num_decoders;
  unsigned short output_formats;
  unsigned most_width, most_height, most_blocks;
  unsigned short least_width, least_height;
};

struct Rectangle {
  short left, top, right, bottom;
};

struct NewDecoder {
  unsigned long width, height, num_surfaces;
  int codec, chroma_format;
  unsigned long flags, bit_depth_minus_8, intra_only, most_width, most_height, reserved;
  Rectangle display_area;
  int output_format, deinterlacing;
  unsigned long target_width, target_height, num_outputs;
};

struct Picture {
  int width_in_blocks, height_in_blocks, surface;
};

struct Mapping {
  int progressive, second_field, top_field_first, unpaired_field;
  unsigned reserved[2];
  Address raw_input;
  unsigned raw_input_pitch, raw_input_format;
  Address raw_output;
  unsigned raw_output_pitch, reserved_1;
  void *stream;
};

struct Fill {
  unsigned char *start;
  size_t row_bytes, num_rows;
  int luma;
  bool is_16_bit;
};

void fill(void *given) {
  auto *job = static_cast<Fill *>(given);
  auto set = [&](size_t first_row, size_t rows, int value) {
    unsigned char *start = job->start + first_row * job->row_bytes;
    for (size_t i = 0; i < rows * job->row_bytes; i++) start[i] = job->is_16_bit && i % 2 == 0 ? 0 : value;
  };
  set(0, job->num_rows, job->luma);
  set(job->num_rows, job->num_rows / 2, GREY);
  delete job;
}

struct Decoder {
  size_t row_bytes, num_rows;
  bool is_16_bit;
  void *context;
  std::vector<int> lumas;              // by surface
  std::map<Address, bool> is_mapped;   // by output
};

std::mutex state;
struct {
  long created, live, most_surfaces, refused;
} counts;
int num_decoded;

}  // namespace

extern "C" {

/* Decoders created, those that live, the most surfaces one was asked for, and decoders refused. */
void emulated_decoders(long found[4]) {
  std::lock_guard<std::mutex> lock(state);
  memcpy(found, &counts, sizeof counts);
}

int cuvidGetDecoderCaps(Capabilities *capabilities) {
  capabilities->is_supported = 1;
  capabilities->num_decoders = 3;
  capabilities->output_formats = 15;
  capabilities->most_width = capabilities->most_height = 8192;
  capabilities->most_blocks = 262144;
  capabilities->least_width = 48;
  capabilities->least_height = 16;
  return 0;
}

int cuvidCreateDecoder(void **handle, NewDecoder *wanted) {
  std::lock_guard<std::mutex> lock(state);
  void *context = nullptr;
  cuCtxGetCurrent(&context);
  if (!context) emulated_violate("cuvidCreateDecoder: no context is current in this thread");
  if (static_cast<long>(wanted->num_surfaces) > counts.most_surfaces)
    counts.most_surfaces = static_cast<long>(wanted->num_surfaces);
  if (!wanted->num_surfaces || wanted->num_surfaces > MOST_SURFACES) {
    counts.refused++;
    return 1;
  }
  const bool is_16_bit = wanted->output_format == 1;
  const size_t row_bytes = (wanted->target_width * (is_16_bit ? 2 : 1) + 511) / 512 * 512;
  const size_t num_rows = (wanted->target_height + 1) / 2 * 2;
  auto *decoder =
      new Decoder{row_bytes, num_rows, is_16_bit, context, std::vector<int>(wanted->num_surfaces), {}};
  for (unsigned long i = 0; i < wanted->num_outputs; i++) {
    Address output = 0;
    if (int code = cuMemAlloc_v2(&output, row_bytes * num_rows * 3 / 2)) return code;
    decoder->is_mapped[output] = false;
  }
  counts.created++;
  counts.live++;
  num_decoded = 0;
  *handle = decoder;
  return 0;
}

int cuvidDestroyDecoder(Decoder *decoder) {
  for (auto &[output, is_mapped] : decoder->is_mapped) {
    if (is_mapped) emulated_violate("cuvidDestroyDecoder: a picture is mapped");
    cuMemFree_v2(output);
  }
  delete decoder;
  std::lock_guard<std::mutex> lock(state);
  counts.live--;
  return 0;
}

int cuvidDecodePicture(Decoder *decoder, Picture *picture) {
  std::lock_guard<std::mutex> lock(state);
  void *context = nullptr;
  cuCtxGetCurrent(&context);
  if (context != decoder->context) emulated_violate("cuvidDecodePicture: in another context");
  if (picture->surface < 0 || static_cast<size_t>(picture->surface) >= decoder->lumas.size()) return 1;
  decoder->lumas[static_cast<size_t>(picture->surface)] = FIRST_LUMA + num_decoded++ % NUM_LUMAS;
  return 0;
}

int cuvidMapVideoFrame64(Decoder *decoder, int surface, Address *address, unsigned *pitch, Mapping *mapping) {
  Address free_output = 0;
  {
    std::lock_guard<std::mutex> lock(state);
    for (auto &[output, is_mapped] : decoder->is_mapped)
      if (!is_mapped) free_output = output;
    if (!free_output) return 1;
    decoder->is_mapped[free_output] = true;
  }
  *address = free_output;
  *pitch = static_cast<unsigned>(decoder->row_bytes);
  auto *job = new Fill{reinterpret_cast<unsigned char *>(free_output), decoder->row_bytes, decoder->num_rows,
                       decoder->lumas[static_cast<size_t>(surface)], decoder->is_16_bit};
  return emulated_launch(mapping->stream, fill, job);
}

int cuvidUnmapVideoFrame64(Decoder *decoder, Address address) {
  std::lock_guard<std::mutex> lock(state);
  decoder->is_mapped[address] = false;
  return 0;
}

}  // extern "C"
