// The forms of both units and their names: what follows `scconv::`, as in scconv/fused_ops.py.
#pragma once

#include <string>
#include <vector>

#include "fuse.h"
#include "sru.h"

namespace scconv {

inline std::string name_of(const SruForm& form) {
  static const char* const kNames[kGates] = {"hard", "soft", "complement_soft", "static"};
  return std::string("SRU_") + kNames[form.gate] + (form.standard_deviation ? "_std" : "") +
         (form.at_least ? "_ge" : "") + (form.normalised ? "_normalised" : "") +
         (form.within ? "_within" : "");
}

inline std::string name_of(const FuseForm& form) {
  return std::string("CRUFuse_") + (form.pair ? "pair" : "joint") + (form.affine ? "_affine" : "") +
         (form.added ? "_add" : "") + (form.relu ? "_relu" : "");
}

inline std::vector<SruForm> sru_forms() {
  std::vector<SruForm> forms;
  for (int bits = 0; bits < kGates * 16; ++bits) {
    SruForm form;
    form.gate = static_cast<Gate>(bits / 16);
    form.standard_deviation = bits & 1;
    form.at_least = bits & 2;
    form.normalised = bits & 4;
    form.within = bits & 8;
    // A static mask was compared at export.
    if (form.gate != kStatic || !form.at_least) forms.push_back(form);
  }
  return forms;
}

inline std::vector<FuseForm> fuse_forms() {
  std::vector<FuseForm> forms;
  for (int bits = 0; bits < 16; ++bits) {
    FuseForm form;
    form.pair = bits & 1;
    form.affine = bits & 2;
    form.relu = bits & 4;
    form.added = bits & 8;
    forms.push_back(form);
  }
  return forms;
}

// False where no form has this name.
template <typename Form>
bool find_form(const std::vector<Form>& forms, const std::string& name, Form* found) {
  for (const Form& form : forms) {
    if (name_of(form) == name) {
      *found = form;
      return true;
    }
  }
  return false;
}

}  // namespace scconv
