// A kernel of the emulated driver: what fakes.BrightnessBackend computes, on a stream.

#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <vector>

extern "C" int emulated_launch(void *, void (*)(void *), void *);

namespace {

struct Job {
  const unsigned char *frames;
  size_t num_clips, clip_bytes;
  float *actions, *scenes;
  std::vector<double> action_centres, scene_centres;
  double sharpness;
  unsigned delay_us;
};

void softmax(double mean, const std::vector<double> &centres, double sharpness, float *scores) {
  double sum = 0;
  for (double centre : centres) sum += exp(-sharpness * (mean - centre) * (mean - centre));
  for (size_t i = 0; i < centres.size(); i++)
    scores[i] = static_cast<float>(exp(-sharpness * (mean - centres[i]) * (mean - centres[i])) / sum);
}

void run(void *given) {
  auto *job = static_cast<Job *>(given);
  if (job->delay_us) usleep(job->delay_us);
  for (size_t clip = 0; clip < job->num_clips; clip++) {
    unsigned long long sum = 0;
    for (size_t i = 0; i < job->clip_bytes; i++) sum += job->frames[clip * job->clip_bytes + i];
    const double mean = static_cast<double>(sum) / static_cast<double>(job->clip_bytes) / 255;
    softmax(mean, job->action_centres, job->sharpness, job->actions + clip * job->action_centres.size());
    softmax(mean, job->scene_centres, job->sharpness, job->scenes + clip * job->scene_centres.size());
  }
  delete job;
}

}  // namespace

extern "C" int emulated_brightness(void *stream, const unsigned char *frames, size_t num_clips,
                                   size_t clip_bytes, float *actions, const double *action_centres,
                                   size_t num_actions, float *scenes, const double *scene_centres,
                                   size_t num_scenes, double sharpness, unsigned delay_us) {
  return emulated_launch(stream, run,
                         new Job{frames, num_clips, clip_bytes, actions, scenes,
                                 {action_centres, action_centres + num_actions},
                                 {scene_centres, scene_centres + num_scenes}, sharpness, delay_us});
}
