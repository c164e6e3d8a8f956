// An array of a bundle: its element type, its shape, its values as bytes in C order on this (little-endian) machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace bundle {

enum class Element { kFloat16, kBfloat16, kFloat32, kFloat64, kInt32, kInt64, kUint8, kBool };

using Shape = std::vector<std::int64_t>;

struct Array {
  Element element = Element::kFloat32;
  Shape shape;
  std::vector<std::byte> bytes;
};

using Arrays = std::map<std::string, Array>;

// The type that a manifest calls `name`; Failure where it is none of these.
Element element_named(const std::string& name);
std::string name_of(Element element);
std::size_t size_of(Element element);

// How many values a shape holds; Failure where that is negative or does not fit in memory.
std::size_t count_of(const Shape& shape);
std::string text(const Shape& shape);  // 4x1x8x8

// Zeros of a shape.
Array make_array(Element element, const Shape& shape);

// Every value as a double, which holds all of these but very large int64.
std::vector<double> values(const Array& array);

// The array in another floating-point type, rounded to the nearest even; bundles keep half precision as float32.
Array converted(const Array& array, Element element);

// `rows` entries along the first axis; from the beginning again where there are too few.
Array taken_rows(const Array& array, std::size_t rows);

}  // namespace bundle
