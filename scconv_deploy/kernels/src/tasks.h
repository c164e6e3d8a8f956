// Items of work -> as many tasks as are worth starting.
#pragma once

#include "kernels.h"

namespace scconv {

// From this batch on, whole samples are the tasks; below, channels are, in two phases with a barrier between.
constexpr size_t kSamplesApart = 4;

// Waking the runtime's threads costs some microseconds, in which one core does about this many values.
constexpr size_t kValuesPerTask = 16384;

constexpr size_t kMostTasks = 64;

// function(0) ... function(items - 1), which together touch `values` values, in contiguous tasks.
template <typename Function>
void in_tasks(const Parallel& parallel, size_t items, size_t values, const Function& function) {
  size_t tasks = values / kValuesPerTask;
  tasks = tasks < 1 ? 1 : tasks > kMostTasks ? kMostTasks : tasks;
  tasks = tasks > items ? items : tasks;
  if (tasks == 0) return;
  parallel.each(tasks, [&](size_t task) {
    const size_t end = items * (task + 1) / tasks;
    for (size_t i = items * task / tasks; i < end; ++i) function(i);
  });
}

}  // namespace scconv
