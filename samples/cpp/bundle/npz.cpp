#include "npz.h"

#include <zlib.h>

#include <cstring>
#include <regex>

#include "failure.h"
#include "file.h"

namespace bundle {
namespace {

constexpr std::uint32_t kEndOfDirectory = 0x06054b50, kDirectoryEntry = 0x02014b50, kLocalHeader = 0x04034b50;
constexpr std::uint32_t kInZip64 = 0xffffffff;
constexpr std::uint16_t kStored = 0, kDeflated = 8, kEncrypted = 1;

// Numbers out of a file that may be cut or forged anywhere: nothing is read past its end.
class Bytes {
 public:
  Bytes(std::string data, std::string name) : data_(std::move(data)), name_(std::move(name)) {}

  std::uint32_t number(std::size_t at, std::size_t width) const {
    std::uint32_t value = 0;
    for (std::size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(part(at, width)[i]);
    return value;
  }

  std::string_view part(std::size_t at, std::size_t length) const {
    if (at > data_.size() || length > data_.size() - at) throw damaged("it ends too early");
    return std::string_view(data_).substr(at, length);
  }

  std::size_t size() const { return data_.size(); }

  Failure damaged(const std::string& reason) const { return bad_input(name_ + " is damaged: " + reason); }

 private:
  std::string data_;
  std::string name_;
};

std::size_t end_of_directory(const Bytes& zip) {
  constexpr std::size_t kLength = 22;
  for (std::size_t at = zip.size() < kLength ? 0 : zip.size() - kLength + 1; at-- > 0;)
    if (zip.number(at, 4) == kEndOfDirectory) return at;
  throw zip.damaged("it has no zip directory");
}

std::string inflated(const Bytes& zip, std::string_view packed, std::size_t size) {
  std::string out(size, '\0');
  z_stream stream = {};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw missing("zlib cannot be started");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(size);
  const int status = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (status != Z_STREAM_END || stream.avail_out != 0) throw zip.damaged("an array cannot be inflated");
  return out;
}

// The values of a dictionary that Python wrote: {'descr': '<f4', 'fortran_order': False, 'shape': (4, 10), }
Array header(const Bytes& npy, const std::string& words) {
  std::smatch kind, extents;
  if (!std::regex_search(words, kind, std::regex("'descr': *'([^']*)'")) ||
      !std::regex_search(words, extents, std::regex("'shape': *\\(([0-9, ]*)\\)"))) {
    throw npy.damaged("its header is not NumPy's");
  }
  if (words.find("'fortran_order': False") == std::string::npos) throw npy.damaged("it is not in C order");
  static const std::map<std::string, Element> kinds = {
      {"<f2", Element::kFloat16}, {"<f4", Element::kFloat32}, {"<f8", Element::kFloat64}, {"<i4", Element::kInt32},
      {"<i8", Element::kInt64},   {"|u1", Element::kUint8},   {"|b1", Element::kBool},    {"|V2", Element::kBfloat16}};
  const auto found = kinds.find(kind[1]);
  if (found == kinds.end()) throw bad_input("this sample does not read arrays of type '" + kind[1].str() + "'");
  Array array;
  array.element = found->second;
  const std::string list = extents[1];
  static const std::regex digits("[0-9]{1,18}");
  for (std::sregex_iterator one(list.begin(), list.end(), digits), end; one != end; ++one)
    array.shape.push_back(std::stoll(one->str()));
  return array;
}

Array read_npy(const Bytes& npy) {
  if (npy.part(0, 6) != std::string_view("\x93NUMPY", 6)) throw npy.damaged("it is no NumPy array");
  const std::size_t width = npy.number(6, 1) >= 2 ? 4 : 2, begin = 8 + width, length = npy.number(8, width);
  Array array = header(npy, std::string(npy.part(begin, length)));
  const std::size_t size = count_of(array.shape) * size_of(array.element);
  if (npy.size() - begin - length != size) throw npy.damaged("its length does not fit its shape");
  const std::string_view data = npy.part(begin + length, size);
  array.bytes.resize(size);
  if (size != 0) std::memcpy(array.bytes.data(), data.data(), size);
  return array;
}

// The array of one entry of the zip's directory.
Array read_entry(const Bytes& zip, std::size_t at, const std::string& name) {
  const std::uint32_t packed = zip.number(at + 20, 4), size = zip.number(at + 24, 4), local = zip.number(at + 42, 4);
  if (packed == kInZip64 || size == kInZip64 || local == kInZip64) {
    throw bad_input(name + " is larger than 4 GB, which this sample does not read");
  }
  if ((zip.number(at + 8, 2) & kEncrypted) != 0 || zip.number(local, 4) != kLocalHeader) {
    throw zip.damaged("it has no readable " + name);
  }
  const std::size_t begin = local + 30 + zip.number(local + 26, 2) + zip.number(local + 28, 2);
  const std::string_view stored = zip.part(begin, packed);
  const std::uint32_t method = zip.number(at + 10, 2);
  if (method != kStored && method != kDeflated) throw zip.damaged(name + " is packed in an unknown way");
  if (method == kStored && size != packed) throw zip.damaged(name + " has two lengths");
  // Deflate cannot shrink further than this: a forged length must not take all memory.
  if (size / 1032 > packed) throw zip.damaged(name + " has an impossible length");
  std::string data = method == kDeflated ? inflated(zip, stored, size) : std::string(stored);
  const auto* first = reinterpret_cast<const Bytef*>(data.data());
  if (crc32(0, first, static_cast<uInt>(data.size())) != zip.number(at + 16, 4)) {
    throw zip.damaged(name + " has another checksum");
  }
  return read_npy(Bytes(std::move(data), name));
}

}  // namespace

Arrays read_npz(const std::filesystem::path& file) {
  const Bytes zip(read_file(file), file.string());
  const std::size_t end = end_of_directory(zip);
  Arrays arrays;
  std::size_t at = zip.number(end + 16, 4);
  for (std::uint32_t left = zip.number(end + 10, 2); left > 0; --left) {
    if (zip.number(at, 4) != kDirectoryEntry) throw zip.damaged("its zip directory is broken");
    const std::size_t length = zip.number(at + 28, 2);
    std::string name(zip.part(at + 46, length));
    constexpr std::string_view kSuffix = ".npy";
    if (length >= kSuffix.size() && name.compare(length - kSuffix.size(), kSuffix.size(), kSuffix) == 0) {
      name.resize(length - kSuffix.size());
    }
    arrays[name] = read_entry(zip, at, name);
    at += 46 + length + zip.number(at + 30, 2) + zip.number(at + 32, 2);
  }
  return arrays;
}

}  // namespace bundle
