// oneDNN on the CPU as a peer of `voxgrad bench`: convolutions. bench/README.md describes the protocol.
//
//   g++ -std=c++17 -O2 -fopenmp onednn_peer.cc -o onednn_peer -ldnnl     (written for oneDNN 2.x)
//
// Only the primitive is timed: every tensor already has the layout that the primitive chose. Variants: "blocked", all
// layouts left to the library; "channels-last", activations as voxgrad has them; both for 2-D shapes as true 2-D
// convolutions too; and "winograd" for those, which the library never picks by itself.
#include <dnnl.hpp>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
using Arguments = std::unordered_map<int, dnnl::memory>;

namespace {

// What a request says about its convolution. Requests come from `voxgrad bench` alone, so a search by key will do.
class Request {
 public:
  explicit Request(std::string text) : text_(std::move(text)) {}

  std::string word(const char* key) const {
    const size_t at = find(key);
    if (at == std::string::npos) return "";
    if (text_[at] == '"') return text_.substr(at + 1, text_.find('"', at + 1) - at - 1);
    return text_.substr(at, text_.find_first_of(",}]", at) - at);
  }

  Dims list(const char* key) const {
    const size_t at = find(key);
    Dims numbers;
    if (at == std::string::npos || text_[at] != '[') return numbers;
    std::stringstream items(text_.substr(at + 1, text_.find(']', at) - at - 1));
    for (std::string item; std::getline(items, item, ',');) numbers.push_back(std::stoll(item));
    return numbers;
  }

  // Everything but the seconds, which are the last field.
  std::string key() const { return text_.substr(0, text_.find("\"seconds\"")); }

 private:
  size_t find(const char* key) const {
    const std::string quoted = "\"" + std::string(key) + "\":";
    const size_t at = text_.find(quoted);
    return at == std::string::npos ? at : at + quoted.size();
  }

  std::string text_;
};

struct Geometry {
  Dims x, y, w, stride, dilation, padding;
};

Geometry geometryOf(const Request& request, size_t axes) {
  const Dims input = request.list("input"), output = request.list("output");
  const auto cut = [axes](const Dims& three) { return Dims(three.end() - axes, three.end()); };
  const auto activation = [&](const Dims& channelsLast) {
    Dims dims{channelsLast[0], channelsLast[4]};
    for (const int64_t extent : cut({channelsLast[1], channelsLast[2], channelsLast[3]})) dims.push_back(extent);
    return dims;
  };
  const int64_t groups = std::stoll(request.word("groups"));
  Dims channels{output[4] / groups, input[4] / groups};
  if (groups > 1) channels.insert(channels.begin(), groups);
  Geometry g{activation(input),         activation(output),           channels, cut(request.list("stride")),
             cut(request.list("dilation")), cut(request.list("padding"))};
  for (const int64_t extent : cut(request.list("kernel"))) g.w.push_back(extent);
  for (int64_t& rate : g.dilation) rate -= 1;
  return g;
}

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::memory filled(const dnnl::memory::desc& description) {
  dnnl::memory memory(description, engine());
  float* values = static_cast<float*>(memory.get_data_handle());
  uint32_t state = 12345;
  for (size_t i = 0; i < description.get_size() / sizeof(float); i++) {
    state = state * 1664525u + 1013904223u;
    values[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-32f;
  }
  return memory;
}

struct Variant {
  std::string name;
  dnnl::primitive primitive;
  Arguments arguments;
};

// `Forward`, `BackwardData` and `BackwardWeights` are the primitives of convolution or of deconvolution.
template <class Forward, class BackwardData, class BackwardWeights>
Variant prepare(const std::string& name, const std::string& pass, const Geometry& g, Tag tag,
                dnnl::algorithm algorithm) {
  const auto f32 = dnnl::memory::data_type::f32;
  const dnnl::memory::desc x(g.x, f32, tag), y(g.y, f32, tag), w(g.w, f32, Tag::any);
  typename Forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, algorithm, x, w, y, g.stride, g.dilation, g.padding, g.padding},
      engine());
  if (pass == "forward")
    return {name,
            Forward(forward),
            {{DNNL_ARG_SRC, filled(forward.src_desc())},
             {DNNL_ARG_WEIGHTS, filled(forward.weights_desc())},
             {DNNL_ARG_DST, filled(forward.dst_desc())}}};
  if (pass == "input gradient") {
    typename BackwardData::primitive_desc backward(
        {algorithm, x, w, y, g.stride, g.dilation, g.padding, g.padding}, engine(), forward);
    return {name,
            BackwardData(backward),
            {{DNNL_ARG_DIFF_SRC, filled(backward.diff_src_desc())},
             {DNNL_ARG_WEIGHTS, filled(backward.weights_desc())},
             {DNNL_ARG_DIFF_DST, filled(backward.diff_dst_desc())}}};
  }
  typename BackwardWeights::primitive_desc backward(
      {algorithm, x, w, y, g.stride, g.dilation, g.padding, g.padding}, engine(), forward);
  return {name,
          BackwardWeights(backward),
          {{DNNL_ARG_SRC, filled(backward.src_desc())},
           {DNNL_ARG_DIFF_WEIGHTS, filled(backward.diff_weights_desc())},
           {DNNL_ARG_DIFF_DST, filled(backward.diff_dst_desc())}}};
}

std::vector<Variant> variantsOf(const Request& request) {
  const bool transposed = request.word("transposed") == "true";
  const bool flat = request.list("input")[1] == 1 && request.list("kernel")[0] == 1;
  const std::string pass = request.word("pass");
  std::vector<Variant> variants;
  const auto add = [&](const std::string& name, size_t axes, Tag tag, bool winograd) {
    const Geometry g = geometryOf(request, axes);
    try {
      if (transposed)
        variants.push_back(
            prepare<dnnl::deconvolution_forward, dnnl::deconvolution_backward_data,
                    dnnl::deconvolution_backward_weights>(name, pass, g, tag, dnnl::algorithm::deconvolution_direct));
      else
        variants.push_back(prepare<dnnl::convolution_forward, dnnl::convolution_backward_data,
                                   dnnl::convolution_backward_weights>(
            name, pass, g, tag,
            winograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct));
    } catch (const dnnl::error&) {
      // This variant does not exist for the shape.
    }
  };
  add("blocked", 3, Tag::any, false);
  add("channels-last", 3, Tag::ndhwc, false);
  if (flat) {
    add("2-D blocked", 2, Tag::any, false);
    add("2-D channels-last", 2, Tag::nhwc, false);
    if (!transposed) add("2-D winograd", 2, Tag::any, true);
  }
  return variants;
}

std::vector<double> timesOf(const Variant& variant, dnnl::stream& stream, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  const auto run = [&] {
    const auto began = Clock::now();
    variant.primitive.execute(stream, variant.arguments);
    stream.wait();
    return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  };
  run();
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (milliseconds.size() < 3 || (Clock::now() < end && milliseconds.size() < 500))
    milliseconds.push_back(run());
  return milliseconds;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text)
    if (c == '"' || c == '\\')
      result += std::string("\\") + c;
    else
      result += c < ' ' ? ' ' : c;
  return result + "\"";
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1;
  for (int i = 1; i + 1 < argc; i++)
    if (std::string(argv[i]) == "--threads") threads = std::atoi(argv[i + 1]);
  omp_set_num_threads(threads);
  const dnnl_version_t* version = dnnl_version();
  std::printf("{\"name\": \"oneDNN\", \"version\": \"%d.%d.%d\", \"threads\": %d}\n", version->major,
              version->minor, version->patch, threads);
  std::fflush(stdout);
  dnnl::stream stream(engine());
  std::string key;
  std::vector<Variant> variants;
  for (std::string line; std::getline(std::cin, line);) {
    const Request request(line);
    std::string answer;
    try {
      if (request.word("mode") != "conv") {
        answer = "{\"unsupported\": \"oneDNN is asked for convolutions alone\"}";
      } else {
        if (request.key() != key) {
          variants.clear();
          key.clear();
          variants = variantsOf(request);
          key = request.key();
        }
        const double seconds = std::stod(request.word("seconds"));
        for (const Variant& variant : variants) {
          answer += (answer.empty() ? "{\"times\": {" : ", ") + quoted(variant.name) + ": [";
          std::string separator;
          for (const double time : timesOf(variant, stream, seconds / variants.size())) {
            answer += separator + std::to_string(time);
            separator = ", ";
          }
          answer += "]";
        }
        answer = variants.empty() ? "{\"unsupported\": \"no implementation for this shape\"}" : answer + "}}";
      }
    } catch (const std::exception& error) {
      answer = "{\"error\": " + quoted(error.what()) + "}";
    }
    std::printf("%s\n", answer.c_str());
    std::fflush(stdout);
  }
}
