#include "reproduce.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "failure.h"

namespace bundle {
namespace {

constexpr std::size_t kBatch = 3;

struct Row {
  std::string output, shape, samples;
  double error, limit;
  bool passed() const { return error <= limit; }  // false for a NaN
};

// The 99 % quantile, between two values where it falls there, as NumPy takes it.
double quantile99(std::vector<double> errors) {
  const double place = 0.99 * static_cast<double>(errors.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  std::sort(errors.begin(), errors.end());
  const double above = errors[std::min(low + 1, errors.size() - 1)];
  return errors[low] + (place - static_cast<double>(low)) * (above - errors[low]);
}

double measured(const std::string& metric, std::vector<double> errors) {
  if (errors.empty()) return 0.0;
  for (const double error : errors) {
    if (!std::isfinite(error)) return std::numeric_limits<double>::quiet_NaN();
  }
  if (metric == "p99_abs") return quantile99(std::move(errors));
  if (metric == "mean_abs") {
    double sum = 0.0;
    for (const double error : errors) sum += error;
    return sum / static_cast<double>(errors.size());
  }
  if (metric == "max_abs") return *std::max_element(errors.begin(), errors.end());
  throw bad_input("the manifest judges by '" + metric + "', which this sample does not know");
}

Row compared(const End& end, const Array& got, const Array& want, const Tolerance& tolerance,
             const std::string& samples) {
  if (got.shape != want.shape) {
    throw Failure(kDiffers, "output '" + end.name + "' has shape " + text(got.shape) + ", not " + text(want.shape));
  }
  if (got.element != end.element) {
    throw Failure(kDiffers, "output '" + end.name + "' is " + name_of(got.element) + ", not " + name_of(end.element));
  }
  const std::vector<double> have = values(got), wanted = values(want);
  std::vector<double> errors(wanted.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    errors[i] = std::fabs(have[i] - wanted[i]);
    largest = std::max(largest, std::fabs(wanted[i]));
  }
  const double limit = tolerance.atol + tolerance.rtol * largest;
  return {end.name, text(got.shape), samples, measured(tolerance.metric, std::move(errors)), limit};
}

Arrays rows_of(const Arrays& arrays) {
  Arrays taken;
  for (const auto& [name, array] : arrays) taken[name] = taken_rows(array, kBatch);
  return taken;
}

const Array& given(const Arrays& answers, const std::string& name) {
  const auto found = answers.find(name);
  if (found == answers.end()) throw Failure(kDiffers, "the model gives no output called '" + name + "'");
  return found->second;
}

void print(const std::vector<Row>& rows, const std::string& metric) {
  std::printf("  %-20s %-14s %-16s %-12s %-10s %s\n", "output", "shape", "samples", metric.c_str(), "limit", "verdict");
  for (const Row& row : rows) {
    std::printf("  %-20s %-14s %-16s %-12.2e %-10.2e %s\n", row.output.c_str(), row.shape.c_str(),
                row.samples.c_str(), row.error, row.limit, row.passed() ? "PASS" : "FAIL");
  }
}

}  // namespace

bool reproduce(const Bundle& bundle, const std::string& title, const Run& run) {
  std::printf("%s: %s\n", bundle.folder.string().c_str(), title.c_str());
  for (const End& end : bundle.inputs) std::printf("  in   %s\n", describe(end).c_str());
  for (const End& end : bundle.outputs) std::printf("  out  %s\n", describe(end).c_str());

  std::vector<Row> rows;
  const Arrays answers = run(bundle.golden_inputs);
  for (const End& end : bundle.outputs) {
    const Array& want = bundle.golden_outputs.at(end.name);
    rows.push_back(compared(end, given(answers, end.name), want, bundle.tolerance, "golden"));
  }
  const std::optional<std::string> batch = batch_axis(bundle);
  const Arrays three = batch ? rows_of(bundle.golden_inputs) : Arrays();
  if (batch && takes(bundle, three)) {
    const Arrays more = run(three);
    for (const End& end : bundle.outputs) {
      // An output whose first axis is not the batch need not be that of single samples.
      if (end.axes.empty() || end.axes[0].name != *batch) continue;
      const Array want = taken_rows(bundle.golden_outputs.at(end.name), kBatch);
      rows.push_back(compared(end, given(more, end.name), want, bundle.tolerance, *batch + " of 3"));
    }
  }
  print(rows, bundle.tolerance.metric);
  return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.passed(); });
}

int guarded(const std::function<bool()>& body) {
  try {
    return body() ? kSuccess : kDiffers;
  } catch (const Failure& failure) {
    std::fprintf(stderr, "error: %s\n", failure.what());
    return failure.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return kBadInput;
  }
}

}  // namespace bundle
