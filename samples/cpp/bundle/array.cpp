#include "array.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "failure.h"

namespace bundle {
namespace {

struct Kind {
  Element element;
  const char* name;
  std::size_t size;
};

constexpr std::array<Kind, 8> kKinds = {{{Element::kFloat16, "float16", 2},
                                         {Element::kBfloat16, "bfloat16", 2},
                                         {Element::kFloat32, "float32", 4},
                                         {Element::kFloat64, "float64", 8},
                                         {Element::kInt32, "int32", 4},
                                         {Element::kInt64, "int64", 8},
                                         {Element::kUint8, "uint8", 1},
                                         {Element::kBool, "bool", 1}}};

const Kind& kind_of(Element element) {
  for (const Kind& kind : kKinds)
    if (kind.element == element) return kind;
  throw bad_input("an array has an element type that this sample does not know");
}

template <typename T>
T at(const Array& array, std::size_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

double from_float16(std::uint16_t bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  if (exponent == 0x1f) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

std::uint16_t to_float16(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return sign | 0x7e00;
  const double magnitude = std::fabs(value);
  if (magnitude == 0.0) return sign;  // frexp gives it the exponent of 0.5
  if (magnitude >= 65520.0) return sign | 0x7c00;  // halfway beyond the largest rounds to infinity
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // 11 bits of a normal number, fewer below 2^-14; nearbyint rounds halves to even.
  const int unit = std::max(exponent, -13) - 11;
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, -unit)));
  // A carry out of the fraction raises the exponent by itself, and a subnormal has none.
  const std::uint32_t biased = static_cast<std::uint32_t>(unit + 24) << 10;
  return static_cast<std::uint16_t>(sign | (steps + biased));
}

double from_bfloat16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

std::uint16_t to_bfloat16(double value) {
  const float narrow = static_cast<float>(value);
  std::uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof(bits));
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double value_at(const Array& array, std::size_t index) {
  switch (array.element) {
    case Element::kFloat16: return from_float16(at<std::uint16_t>(array, index));
    case Element::kBfloat16: return from_bfloat16(at<std::uint16_t>(array, index));
    case Element::kFloat32: return at<float>(array, index);
    case Element::kFloat64: return at<double>(array, index);
    case Element::kInt32: return at<std::int32_t>(array, index);
    case Element::kInt64: return static_cast<double>(at<std::int64_t>(array, index));
    case Element::kUint8:
    case Element::kBool: return at<std::uint8_t>(array, index);
  }
  throw bad_input("an array has an element type that this sample does not know");
}

template <typename T>
void put(Array& array, std::size_t index, T value) {
  std::memcpy(array.bytes.data() + index * sizeof(T), &value, sizeof(T));
}

}  // namespace

Element element_named(const std::string& name) {
  for (const Kind& kind : kKinds)
    if (name == kind.name) return kind.element;
  throw bad_input("this sample does not read values of type '" + name + "'");
}

std::string name_of(Element element) { return kind_of(element).name; }

std::size_t size_of(Element element) { return kind_of(element).size; }

std::size_t count_of(const Shape& shape) {
  constexpr std::size_t kLimit = std::numeric_limits<std::size_t>::max() / 8;
  std::size_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && count > kLimit / static_cast<std::size_t>(size))) {
      throw bad_input("an array has the impossible shape " + text(shape));
    }
    count *= static_cast<std::size_t>(size);
  }
  return count;
}

std::string text(const Shape& shape) {
  std::string all;
  for (const std::int64_t size : shape) all += (all.empty() ? "" : "x") + std::to_string(size);
  return all.empty() ? "scalar" : all;
}

Array make_array(Element element, const Shape& shape) {
  return {element, shape, std::vector<std::byte>(count_of(shape) * size_of(element))};
}

std::vector<double> values(const Array& array) {
  std::vector<double> all(count_of(array.shape));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = value_at(array, i);
  return all;
}

Array converted(const Array& array, Element element) {
  if (array.element == element) return array;
  Array made = make_array(element, array.shape);
  const std::vector<double> all = values(array);
  for (std::size_t i = 0; i < all.size(); ++i) {
    switch (element) {
      case Element::kFloat16: put(made, i, to_float16(all[i])); break;
      case Element::kBfloat16: put(made, i, to_bfloat16(all[i])); break;
      case Element::kFloat32: put(made, i, static_cast<float>(all[i])); break;
      case Element::kFloat64: put(made, i, all[i]); break;
      default:
        throw bad_input("the golden samples are " + name_of(array.element) + " where the manifest says " +
                        name_of(element));
    }
  }
  return made;
}

Array taken_rows(const Array& array, std::size_t rows) {
  const std::size_t have = array.shape.empty() ? 0 : static_cast<std::size_t>(array.shape[0]);
  if (have == 0) throw bad_input("the golden samples hold no rows to take");
  const std::size_t width = array.bytes.size() / have;
  Array made = array;
  made.shape[0] = static_cast<std::int64_t>(rows);
  made.bytes.resize(rows * width);
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(made.bytes.data() + row * width, array.bytes.data() + row % have * width, width);
  }
  return made;
}

}  // namespace bundle
